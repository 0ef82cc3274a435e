"""Where a calculation begins."""
