"""Benchmarks of learned optimizers."""
