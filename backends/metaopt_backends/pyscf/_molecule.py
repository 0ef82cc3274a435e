"""Molecules as PySCF knows them, checked, and their integrals."""

import warnings
from typing import Any

import numpy as np
from pyscf import df, dft, gto

from metaopt.scf import Geometries, Molecule, check_pairing, check_size

from ._guess import density


# In bohr. Nuclei are never this close.
_COINCIDENT = 1e-3


def molecule(
    atoms: Any,
    basis: Any,
    charge: int,
    spin: int | None,
    unit: str,
    restricted: bool | None,
    fitted: bool | str,
    guess: str | None,
    grid: int | None,
    limit: float,
) -> Molecule:
    """What a calculation needs. Nothing large is allocated before its size is checked."""
    mol = atoms if isinstance(atoms, gto.Mole) else _build(atoms, basis, charge, spin, unit)
    up, down = (int(count) for count in mol.nelec)
    check_pairing((up, down), up == down if restricted is None else restricted)
    _check_positions(mol)
    n = mol.nao
    auxiliary = _auxiliary(mol, fitted)
    check_size(n, None if auxiliary is None else auxiliary.nao, limit)
    weights, orbitals = (None, None) if grid is None else _grid(mol, grid, limit)
    return Molecule(
        overlap=mol.intor("int1e_ovlp"),
        core=_core(mol),
        repulsion=mol.intor("int2e", aosym="s4") if auxiliary is None else _factors(mol, auxiliary),
        fitted=auxiliary is not None,
        nuclear_energy=float(mol.energy_nuc()),
        electrons=(up, down),
        guess=None if guess is None else density(mol, guess),
        weights=weights,
        orbitals=orbitals,
        positions=None if mol.cart else mol.atom_coords(),
        elements=tuple(mol.atom_symbol(i) for i in range(mol.natm)),
        shells=_shells(mol),
    )


def geometries(
    atoms: Any,
    positions: np.ndarray,
    basis: Any,
    charge: int,
    spin: int | None,
    unit: str,
    restricted: bool | None,
    limit: float,
) -> Geometries:
    """What calculations of many geometries need. The molecule is read once, and then moved."""
    mol = atoms.copy() if isinstance(atoms, gto.Mole) else _build(atoms, basis, charge, spin, unit)
    up, down = (int(count) for count in mol.nelec)
    check_pairing((up, down), up == down if restricted is None else restricted)
    if mol.cart or mol.has_ecp():
        raise ValueError("Many geometries at once need spherical functions and all electrons. Make systems one by one.")
    check_size(mol.nao, None, limit / max(len(positions), 1))
    charges = mol.atom_charges().astype(float)
    near = np.triu_indices(mol.natm, 1)
    rows = []
    for given in positions:
        mol.set_geom_(given, unit=unit)
        _check_positions(mol)
        at = mol.atom_coords()
        apart = np.linalg.norm(at[near[0]] - at[near[1]], axis=-1)
        nuclear = np.sum(charges[near[0]] * charges[near[1]] / apart)
        rows.append((mol.intor("int1e_ovlp"), _core(mol), mol.intor("int2e", aosym="s8"), nuclear, at))
    overlap, core, repulsion, nuclear_energy, places = (np.stack(column) for column in zip(*rows, strict=True))
    return Geometries(
        overlap=overlap,
        core=core,
        repulsion=repulsion,
        nuclear_energy=nuclear_energy,
        positions=places,
        electrons=(up, down),
        # Atoms that are put together do not change when they are moved.
        guess=density(mol, "minao"),
        elements=tuple(mol.atom_symbol(i) for i in range(mol.natm)),
        shells=_shells(mol),
    )


def _shells(mol: gto.Mole) -> tuple[tuple[int, int], ...]:
    """The atom and the angular momentum of each contracted shell."""
    found = []
    for shell in range(mol.nbas):
        found += [(int(mol.bas_atom(shell)), int(mol.bas_angular(shell)))] * int(mol.bas_nctr(shell))
    return tuple(found)


def _build(atoms: Any, basis: Any, charge: int, spin: int | None, unit: str) -> gto.Mole:
    parsed = _parse(atoms, unit)
    total = sum(gto.charge(symbol) for symbol, _ in parsed if not gto.mole.is_ghost_atom(symbol)) - charge
    spin = total % 2 if spin is None else spin
    if total < 0 or spin < 0 or spin > total or (total - spin) % 2:
        raise ValueError(
            f"{total} electrons cannot have {spin} of them unpaired. Give a `spin` (the number of unpaired electrons, "
            f"not the multiplicity) that is {'even' if total % 2 == 0 else 'odd'} and at most {total}, or another "
            "`charge`."
        )
    try:
        with warnings.catch_warnings():
            # Where to look for other basis sets, which is no use to who mistyped a name.
            warnings.simplefilter("ignore", UserWarning)
            return gto.M(atom=parsed, basis=basis, charge=charge, spin=spin, unit="bohr", verbose=0)
    except (KeyError, RuntimeError, ValueError, OSError, AssertionError) as error:
        raise ValueError(
            f"PySCF has no basis {basis!r} for the elements {', '.join(sorted({s for s, _ in parsed}))}: {error}"
        ) from error


def _parse(atoms: Any, unit: str) -> list[tuple[str, Any]]:
    if unit.lower() not in ("angstrom", "bohr"):
        raise ValueError(f"`unit` must be 'angstrom' or 'bohr', but {unit!r} was given.")
    try:
        parsed = [(symbol, tuple(position)) for symbol, position in gto.format_atom(atoms, unit=unit)]
        unknown = [symbol for symbol, _ in parsed if not gto.mole.is_ghost_atom(symbol) and not gto.charge(symbol)]
        if unknown:
            raise ValueError(f"there is no element {unknown[0]!r}")
    except (KeyError, RuntimeError, ValueError, IndexError) as error:
        raise ValueError(f"The atoms could not be read: {error}. There may be an unknown element.") from error
    return parsed


def _check_positions(mol: gto.Mole) -> None:
    at = mol.atom_coords()
    if not np.all(np.isfinite(at)):
        raise ValueError("Positions of atoms are not finite.")
    apart = np.linalg.norm(at[:, None] - at[None], axis=-1) + np.diag(np.full(len(at), np.inf))
    if len(at) > 1 and apart.min() < _COINCIDENT:
        i, j = (int(k) for k in np.unravel_index(np.argmin(apart), apart.shape))
        raise ValueError(
            f"Atoms {i} ({mol.atom_symbol(i)}) and {j} ({mol.atom_symbol(j)}) coincide: they are {apart[i, j]:.2g} "
            "bohr apart. Check the geometry and its `unit`."
        )


def _core(mol: gto.Mole) -> np.ndarray:
    core = mol.intor("int1e_kin") + mol.intor("int1e_nuc")
    return core + mol.intor("ECPscalar") if mol.has_ecp() else core


def _grid(mol: gto.Mole, level: int, limit: float) -> tuple[np.ndarray, np.ndarray]:
    if not 0 <= level <= 9:
        raise ValueError(f"`grid` must be between 0 and 9, but {level} was given.")
    points = dft.gen_grid.Grids(mol)
    points.level = level
    points.build()
    needed = 32.0 * len(points.weights) * mol.nao
    if needed > limit:
        raise ValueError(
            f"{mol.nao} functions on {len(points.weights)} points would take {needed / 2**30:.3g} GiB, but at most "
            f"{limit / 2**30:.3g} GiB are allowed. Raise `max_gib`, or use a coarser `grid`."
        )
    return np.asarray(points.weights), np.asarray(dft.numint.eval_ao(mol, points.coords, deriv=1))


def _auxiliary(mol: gto.Mole, fitted: bool | str) -> gto.Mole | None:
    if fitted is False:
        return None
    return df.addons.make_auxmol(mol, None if fitted is True else fitted)


def _factors(mol: gto.Mole, auxiliary: gto.Mole) -> np.ndarray:
    return np.asarray(df.incore.cholesky_eri(mol, auxmol=auxiliary, verbose=0))
