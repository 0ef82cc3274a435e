"""Wrappers that keep a learned rule from being worse than a fallback."""
