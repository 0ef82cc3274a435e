from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Any, TypeAlias

from numpy import ndarray

# Text ("H 0 0 0; H 0 0 0.74"), or pairs of a symbol and a position.
_Atoms: TypeAlias = str | Sequence[Any]
_Basis: TypeAlias = str | dict[str, Any]

class Mole:
    atom: _Atoms
    basis: _Basis
    charge: int
    spin: int
    cart: bool
    unit: str | float
    verbose: int
    max_memory: float
    _basis: dict[str, Any]
    @property
    def natm(self) -> int: ...
    @property
    def nbas(self) -> int: ...
    @property
    def nao(self) -> int: ...
    @property
    def nelec(self) -> tuple[int, int]: ...
    @property
    def nelectron(self) -> int: ...
    def __init__(self, **kwargs: Any) -> None: ...
    def build(
        self,
        dump_input: bool = True,
        parse_arg: bool = ...,
        verbose: int | None = None,
        output: str | None = None,
        max_memory: float | None = None,
        atom: _Atoms | None = None,
        basis: _Basis | None = None,
        unit: str | float | None = None,
        nucmod: Any = None,
        ecp: Any = None,
        pseudo: Any = None,
        charge: int | None = None,
        spin: int | None = 0,
        symmetry: bool | str | None = None,
        symmetry_subgroup: str | None = None,
        cart: bool | None = None,
        magmom: Any = None,
    ) -> Mole: ...
    def copy(self, deep: bool = True) -> Mole: ...
    def set_geom_(
        self,
        atoms_or_coords: _Atoms | ndarray,
        unit: str | float | None = None,
        symmetry: bool | str | None = None,
        inplace: bool = True,
    ) -> Mole: ...
    def has_ecp(self) -> bool: ...
    def nao_nr(self, cart: bool | None = None) -> int: ...
    def atom_coords(self, unit: str | float = "Bohr") -> ndarray: ...
    def atom_charges(self) -> ndarray: ...
    def atom_symbol(self, atm_id: int) -> str: ...
    def bas_atom(self, bas_id: int) -> int: ...
    def bas_angular(self, bas_id: int) -> int: ...
    def bas_nctr(self, bas_id: int) -> int: ...
    def ao_labels(self, fmt: bool | str = True, base: int = 0) -> list[Any]: ...
    def aoslice_by_atom(self, ao_loc: ndarray | None = None) -> ndarray: ...
    def energy_nuc(self, charges: ndarray | None = None, coords: ndarray | None = None) -> float: ...
    def with_common_orig(self, coord: Sequence[float] | ndarray) -> AbstractContextManager[None]: ...
    def intor(
        self,
        intor: str,
        comp: int | None = None,
        hermi: int = 0,
        aosym: str = "s1",
        out: ndarray | None = None,
        shls_slice: Sequence[int] | None = None,
        grids: ndarray | None = None,
    ) -> ndarray: ...
    def eval_gto(
        self,
        eval_name: str,
        coords: ndarray,
        comp: int | None = None,
        shls_slice: Sequence[int] | None = None,
        non0tab: ndarray | None = None,
        ao_loc: ndarray | None = None,
        cutoff: float | None = None,
        out: ndarray | None = None,
    ) -> ndarray: ...

def charge(symb_or_chg: str | float) -> int: ...
def _std_symbol(symb_or_chg: str | float) -> str: ...
def is_ghost_atom(symb_or_chg: str | float) -> bool: ...
def format_atom(
    atoms: _Atoms, origin: Any = 0, axes: Any = None, unit: str | float = "angstrom"
) -> list[tuple[str, list[float]]]: ...

# Takes what `Mole.build` takes.
def M(
    dump_input: bool = True,
    parse_arg: bool = ...,
    verbose: int | None = None,
    output: str | None = None,
    max_memory: float | None = None,
    atom: _Atoms | None = None,
    basis: _Basis | None = None,
    unit: str | float | None = None,
    nucmod: Any = None,
    ecp: Any = None,
    pseudo: Any = None,
    charge: int | None = None,
    spin: int | None = 0,
    symmetry: bool | str | None = None,
    symmetry_subgroup: str | None = None,
    cart: bool | None = None,
    magmom: Any = None,
) -> Mole: ...
