from .mole import M as M, Mole as Mole
