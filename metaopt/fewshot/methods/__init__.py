"""MAML and its relatives, one per file."""
