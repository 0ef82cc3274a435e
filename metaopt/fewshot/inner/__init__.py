"""Inner algorithms that a method learns something about."""
