"""Guesses, responses and accelerators with weights to train."""
