"""Benchmarks of few-shot learning, warm starts and continual learning."""
