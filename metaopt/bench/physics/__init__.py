"""Benchmarks of partial differential equations."""
