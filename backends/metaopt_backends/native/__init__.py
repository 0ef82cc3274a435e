from ._native import Native as Native
