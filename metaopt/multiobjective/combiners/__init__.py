"""One direction from several gradients, one rule per file."""
