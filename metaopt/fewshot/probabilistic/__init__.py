"""Ensembles of adapted parameters, and how well they are calibrated."""
