"""Families of tasks to train on and to test with."""
