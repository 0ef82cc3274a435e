"""Benchmarks of several objectives."""
