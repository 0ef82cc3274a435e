"""Molecules that are easy, hard and very hard to solve, up to first-row transition metals."""

import dataclasses
import importlib
import json
import math
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from ...scf import System


Atom = tuple[str, tuple[float, float, float]]


@dataclasses.dataclass(frozen=True)
class MolecularCase:
    """A molecule in a basis; positions in Angstrom."""

    atoms: tuple[Atom, ...]
    basis: str
    charge: int = 0
    spin: int = 0
    restricted: bool = True

    @property
    def options(self) -> dict[str, Any]:
        """What PySCF needs to know of it besides the atoms."""
        return {"basis": self.basis, "charge": self.charge, "spin": self.spin}

    def molecule(self) -> Any:
        """The molecule as PySCF has it."""
        return importlib.import_module("pyscf.gto").M(atom=list(self.atoms), verbose=0, **self.options)

    def system(self) -> System:
        return System.from_pyscf(list(self.atoms), restricted=self.restricted, **self.options)


def _read(text: str) -> tuple[Atom, ...]:
    found = []
    for line in text.split(";"):
        symbol, x, y, z = line.split()
        found.append((symbol, (float(x), float(y), float(z))))
    return tuple(found)


def _line(*atoms: str | float) -> tuple[Atom, ...]:
    """Atoms on a line, with the distances between them."""
    at, found = 0.0, []
    for entry in atoms:
        if isinstance(entry, str):
            found.append((entry, (0.0, 0.0, at)))
        else:
            at += entry
    return tuple(found)


def _ring(symbol: str, size: int, radius: float) -> tuple[Atom, ...]:
    turns = [2 * math.pi * k / size for k in range(size)]
    return tuple((symbol, (radius * math.cos(t), radius * math.sin(t), 0.0)) for t in turns)


def _tetrahedron(center: str, ligand: Sequence[tuple[str, float]]) -> tuple[Atom, ...]:
    """Four times a linear ligand, given as symbols and their distances from the center."""
    found: list[Atom] = [(center, (0.0, 0.0, 0.0))]
    for x, y, z in ((1, 1, 1), (-1, -1, 1), (-1, 1, -1), (1, -1, -1)):
        found += [(s, (x * r / math.sqrt(3), y * r / math.sqrt(3), z * r / math.sqrt(3))) for s, r in ligand]
    return tuple(found)


def _hexaaqua(center: str, distance: float) -> tuple[Atom, ...]:
    """Six flat waters on the axes, the hydrogens of each along the next axis."""
    found: list[Atom] = [(center, (0.0, 0.0, 0.0))]
    for axis in range(3):
        for sign in (1, -1):
            for symbol, along, aside in (("O", 0.0, 0.0), ("H", 0.586, 0.757), ("H", 0.586, -0.757)):
                at = [0.0, 0.0, 0.0]
                at[axis], at[(axis + 1) % 3] = sign * (distance + along), aside
                found.append((symbol, (at[0], at[1], at[2])))
    return tuple(found)


def _open(atoms: tuple[Atom, ...], basis: str, spin: int, charge: int = 0) -> MolecularCase:
    return MolecularCase(atoms, basis, charge, spin, restricted=False)


_GLYCINE = (
    "N 1.963 0.092 0; C 0.562 0.505 0; C -0.422 -0.644 0; O -0.148 -1.817 0; O -1.699 -0.196 0; H 2.124 -0.488 0.81; "
    "H 2.124 -0.488 -0.81; H 0.378 1.14 0.875; H 0.378 1.14 -0.875; H -2.259 -0.985 0"
)
_FORMAMIDE = "C 0 0.419 0; O 1.197 0.233 0; N -0.939 -0.563 0; H -0.45 1.426 0; H -0.65 -1.526 0; H -1.913 -0.333 0"
_BENZYNE = (
    "C 0 1.36 0; C 0 -1.36 0; C 1.223 0.69 0; C -1.223 0.69 0; C 1.223 -0.69 0; C -1.223 -0.69 0; H 2.15 1.245 0; "
    "H -2.15 1.245 0; H 2.15 -1.245 0; H -2.15 -1.245 0"
)
_ALLYL = (
    "C 0 0 0.44; C 0 1.227 -0.2; C 0 -1.227 -0.2; H 0 0 1.526; H 0 2.156 0.354; H 0 -2.156 0.354; "
    "H 0 1.292 -1.281; H 0 -1.292 -1.281"
)
_WATER = "O 0 0 0.11779; H 0 0.755453 -0.471161; H 0 -0.755453 -0.471161"
_ETHENE = "C 0 0 0.6695; C 0 0 -0.6695; H 0 0.9289 1.2321; H 0 -0.9289 1.2321; H 0 0.9289 -1.2321; H 0 -0.9289 -1.2321"
_METHYL = "C 0 0 0; H 0 1.079 0; H 0.9344 -0.5395 0; H -0.9344 -0.5395 0"

MOLECULES: dict[str, MolecularCase] = {
    "h2o_ccpvdz": MolecularCase(_read(_WATER), "cc-pvdz"),
    "ch4_631gs": MolecularCase(_tetrahedron("C", [("H", 0.6276 * math.sqrt(3))]), "6-31g*"),
    "c2h4_ccpvdz": MolecularCase(_read(_ETHENE), "cc-pvdz"),
    "benzene_631gs": MolecularCase(_ring("C", 6, 1.397) + _ring("H", 6, 2.481), "6-31g*"),
    "glycine_631gs": MolecularCase(_read(_GLYCINE), "6-31g*"),
    "hcn_ccpvdz": MolecularCase(_line("H", 1.064, "C", 1.156, "N"), "cc-pvdz"),
    "formamide_631g": MolecularCase(_read(_FORMAMIDE), "6-31g"),
    "lih_ccpvdz": MolecularCase(_line("Li", 1.5949, "H"), "cc-pvdz"),
    "lih_stretch4_631gs": MolecularCase(_line("Li", 4.0, "H"), "6-31g*"),
    "n2_stretch22_ccpvdz": MolecularCase(_line("N", 2.2, "N"), "cc-pvdz"),
    "cnminus_augccpvdz": MolecularCase(_line("C", 1.177, "N"), "aug-cc-pvdz", charge=-1),
    "nacl_stretch5_631gs": MolecularCase(_line("Na", 5.0, "Cl"), "6-31g*"),
    "h10_chain20_sto3g": MolecularCase(_line(*["H", 2.0] * 9, "H"), "sto-3g"),
    "pbenzyne_631g": MolecularCase(_read(_BENZYNE), "6-31g"),
    "mno4minus_631g": MolecularCase(_tetrahedron("Mn", [("O", 1.629)]), "6-31g", charge=-1),
    "cr2_631g": MolecularCase(_line("Cr", 1.6788, "Cr"), "6-31g"),
    "nico4_sto3g": MolecularCase(_tetrahedron("Ni", [("C", 1.838), ("O", 2.979)]), "sto-3g"),
    "o2_trip_ccpvdz": _open(_line("O", 1.2075, "O"), "cc-pvdz", 2),
    "no_631gs": _open(_line("N", 1.1508, "O"), "6-31g*", 1),
    "ch3_631gs": _open(_read(_METHYL), "6-31g*", 1),
    "allyl_631g": _open(_read(_ALLYL), "6-31g", 1),
    "sco_631g": _open(_line("Sc", 1.668, "O"), "6-31g", 1),
    "feo_631g": _open(_line("Fe", 1.616, "O"), "6-31g", 4),
    "feh2o6_2p_sto3g": _open(_hexaaqua("Fe", 2.12), "sto-3g", 4, charge=2),
}


def reference() -> dict[str, Any] | None:
    """What is known of these molecules: the file that `METAOPT_SCF_REFERENCE` names, or beside a source tree."""
    named = os.environ.get("METAOPT_SCF_REFERENCE")
    path = Path(named) if named else Path(__file__).parents[4] / "shared" / "data" / "scf" / "reference.json"
    return json.loads(path.read_text())["systems"] if path.is_file() else None


def lowest_known(name: str, seen: Iterable[float]) -> float:
    """The lowest energy of a molecule, among those seen in this run and what the reference file knows."""
    known = (reference() or {}).get(name)
    return min([*seen, *([known["e_lowest"]] if known else [])])
