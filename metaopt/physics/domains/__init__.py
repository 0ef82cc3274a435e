"""Geometries, and what is made of several."""
