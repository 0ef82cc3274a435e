"""What several rules are made of: inputs, networks, clocks, heads and accumulators."""
