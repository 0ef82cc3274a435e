from . import mole as mole
from .mole import M as M, Mole as Mole, charge as charge, format_atom as format_atom
