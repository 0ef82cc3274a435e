"""Trees of arrays: matching, rounding, buffers, layouts and gradients."""
