"""Kohn-Sham energies against PySCF on the same grid."""

import importlib
from typing import Any

import equinox as eqx
import jax

from ...scf import B3LYP, LDA, PBE, RESULTS, AbstractFunctional, System, solve
from ..base import Claim, Report
from ._molecules import MOLECULES


_NAMES = ("h2o_ccpvdz", "ch4_631gs", "hcn_ccpvdz", "lih_ccpvdz", "o2_trip_ccpvdz", "ch3_631gs")
# By their names in PySCF.
_FUNCTIONALS: dict[str, AbstractFunctional] = {"lda,vwn": LDA(), "pbe,pbe": PBE(), "b3lyp": B3LYP()}


def run(*, full: bool = False) -> Report:
    """Six molecules with three functionals; on a coarse grid, or on PySCF's default one if `full`."""
    with jax.enable_x64(True):
        return _run(_NAMES, 3 if full else 1)


def _run(names: tuple[str, ...], grid: int) -> Report:
    dft = importlib.import_module("pyscf.dft")
    rows, worst, count = [], 0.0, 0
    for name in names:
        case = MOLECULES[name]
        molecule = case.molecule()
        for label, functional in _FUNCTIONALS.items():
            field = (dft.RKS if case.restricted else dft.UKS)(molecule)
            field.set(xc=label, conv_tol=1e-10, conv_tol_grad=1e-6, max_cycle=200)
            field.grids.level = grid
            theirs = float(field.kernel())
            system = System.from_pyscf(molecule, restricted=case.restricted, functional=functional, grid=grid)
            ours = eqx.filter_jit(solve)(system)
            error: Any = abs(float(ours.energy) - theirs)
            if not (field.converged and bool(ours.result == RESULTS.converged)):
                error = float("inf")
            worst, count = max(worst, error), count + 1
            rows.append(
                {
                    "molecule": name,
                    "functional": label,
                    "energy": float(ours.energy),
                    "pyscf": theirs,
                    "error": error,
                    "fock builds": int(ours.fock_builds),
                    "cycles of pyscf": int(field.cycles),
                }
            )
        jax.clear_caches()
    note = f"{count} energies, PySCF {importlib.import_module('pyscf').__version__}; infinite if one did not converge"
    return Report([0], rows, [Claim("max_abs_error_hartree", worst, note, rival=None)])
