"""Residuals of partial differential equations, and families of them."""
