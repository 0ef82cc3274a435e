"""Benchmarks of devices, imports and scaling."""
