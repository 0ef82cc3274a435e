"""The loops of meta-training, and what they record."""
