"""Benchmarks of policies and environments."""
