"""Densities to begin with, from atoms that are cached by element and basis."""

import functools as ft
import warnings
from typing import Any

import numpy as np
from pyscf import gto, scf


def density(molecule: gto.Mole, kind: str) -> np.ndarray:
    """A density of all electrons.

    **Arguments:**

    - `molecule`: the molecule.
    - `kind`: `"minao"`, `"sad"` or `"huckel"`.
    """
    with warnings.catch_warnings():
        # PySCF calls functions of its own that it has deprecated.
        warnings.simplefilter("ignore", DeprecationWarning)
        return _density(molecule, kind)


def _density(molecule: gto.Mole, kind: str) -> np.ndarray:
    if kind == "huckel":
        return np.asarray(scf.hf.init_guess_by_huckel(molecule))
    # Effective core potentials and cartesian functions are left to PySCF.
    if molecule.has_ecp() or molecule.cart:
        return np.asarray(scf.RHF(molecule).get_init_guess(key="minao" if kind == "minao" else "atom"))
    found = np.zeros((molecule.nao, molecule.nao))
    for index, (_, _, first, last) in enumerate(molecule.aoslice_by_atom()):
        symbol = molecule.atom_symbol(index)
        if last > first:
            found[first:last, first:last] = atom(symbol, _frozen(molecule._basis[symbol]), kind)
    return found


@ft.lru_cache(maxsize=512)
def atom(symbol: str, basis: Any, kind: str) -> np.ndarray:
    """The spherical density of one atom in its own basis; turning an atom does not change it."""
    element = gto.mole._std_symbol(symbol)
    alone = gto.M(
        atom=[[element, (0.0, 0.0, 0.0)]], basis={element: _thawed(basis)}, spin=gto.charge(element) % 2, verbose=0
    )
    if kind == "sad":
        return np.asarray(scf.hf.init_guess_by_atom(alone))
    return np.asarray(scf.hf.init_guess_by_minao(alone))


def _frozen(x: Any) -> Any:
    return tuple(_frozen(y) for y in x) if isinstance(x, list | tuple) else x


def _thawed(x: Any) -> Any:
    return [_thawed(y) for y in x] if isinstance(x, tuple) else x
