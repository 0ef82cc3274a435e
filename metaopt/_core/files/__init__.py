"""What is written to disk and read again: checkpoints, curves, headers, locks and caches."""
