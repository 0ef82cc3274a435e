"""Data sets, classes of examples and generators of both."""
