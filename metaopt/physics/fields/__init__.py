"""Networks as fields, and their derivatives."""
