from typing import Any

from pyscf.gto import Mole

from . import hf as hf

def RHF(mol: Mole, *args: Any) -> Any: ...
