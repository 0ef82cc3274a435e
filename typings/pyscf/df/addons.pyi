from typing import Any

from pyscf.gto import Mole

def make_auxmol(mol: Mole, auxbasis: Any = None) -> Mole: ...
