"""Agents, one per file, and their parts."""
