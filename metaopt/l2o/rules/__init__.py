"""Learned update rules, one per file."""
