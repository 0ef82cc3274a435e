"""Where a residual is looked at."""
