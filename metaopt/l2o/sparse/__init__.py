"""Shrinkage-thresholding for sparse coding, and its unfolded networks."""
