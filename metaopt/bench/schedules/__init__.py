"""Benchmarks of step-size rules."""
