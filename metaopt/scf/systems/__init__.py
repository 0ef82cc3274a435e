"""What is solved: molecules as matrices, interactions, functionals, orbitals and tasks of them."""
