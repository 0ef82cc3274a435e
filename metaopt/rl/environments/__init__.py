"""Environments, and what an environment of optimization is made of."""
