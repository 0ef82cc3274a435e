"""Weights of the parts of a loss, and how the parts are combined."""
