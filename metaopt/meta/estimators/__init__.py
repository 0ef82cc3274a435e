"""Estimators of meta-gradients, one per file, and their parts."""
