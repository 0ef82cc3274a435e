"""One network or one rule for all preferences."""
