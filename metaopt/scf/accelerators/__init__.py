"""Rules that make the next Fock matrix or density, one per file, and their parts."""
