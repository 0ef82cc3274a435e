"""Optimizers for sums of squared residuals."""
