"""Streams of families, and what keeps the earlier ones."""
