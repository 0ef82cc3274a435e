"""Benchmarks of self-consistent fields."""
