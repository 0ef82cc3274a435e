"""Inner algorithms that are held near to a start."""
