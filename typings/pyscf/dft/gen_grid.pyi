from typing import Any

from numpy import ndarray
from pyscf.gto import Mole

class Grids:
    level: int
    weights: ndarray
    coords: ndarray
    def __init__(self, mol: Mole) -> None: ...
    def build(
        self, mol: Mole | None = None, with_non0tab: bool = False, sort_grids: bool = True, **kwargs: Any
    ) -> Grids: ...
