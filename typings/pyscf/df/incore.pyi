from typing import Any

from numpy import ndarray
from pyscf.gto import Mole

def cholesky_eri(
    mol: Mole,
    auxbasis: Any = "weigend+etb",
    auxmol: Mole | None = None,
    int3c: str = "int3c2e",
    aosym: str = "s2ij",
    int2c: str = "int2c2e",
    comp: int = 1,
    max_memory: float = 2000,
    decompose_j2c: str = "cd",
    lindep: float = 1e-07,
    verbose: int = 0,
    fauxe2: Any = ...,
) -> ndarray: ...
