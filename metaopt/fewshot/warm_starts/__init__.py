"""Memories of solved problems, and predictors of where to begin the next."""
