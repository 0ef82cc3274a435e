"""The loops over Fock builds, derivatives of what they find, and tests of its stability."""
