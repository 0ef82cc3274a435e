from typing import Any

from numpy import ndarray
from pyscf.gto import Mole

def eval_ao(
    mol: Mole,
    coords: ndarray,
    deriv: int = 0,
    shls_slice: Any = None,
    non0tab: Any = None,
    cutoff: float | None = None,
    out: ndarray | None = None,
    verbose: int | None = None,
) -> ndarray: ...
