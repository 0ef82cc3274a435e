"""Weights that metaopt ships, and files of weights that others have published."""
