"""Benchmarks of meta-gradient estimators."""
