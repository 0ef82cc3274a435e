"""Self-consistent fields of 24 molecules, against PySCF in the same run."""

import importlib
from typing import Any

import equinox as eqx
import jax
import numpy as np

from ..scf import (
    ADIIS,
    CDIIS,
    EDIIS,
    RESULTS,
    AbstractAccelerator,
    Anderson,
    Damping,
    LevelShift,
    Mixing,
    OptimalDamping,
    Roothaan,
    SecondOrder,
    Solution,
    System,
    follow,
    solve,
)
from ._molecules import MOLECULES, MolecularCase, lowest_known
from .base import Claim, Report


_CYCLES = 200
# Beyond this, two energies are those of two solutions.
_APART = 1e-6


def _accelerators(full: bool) -> dict[str, AbstractAccelerator[Any]]:
    some: dict[str, AbstractAccelerator[Any]] = {
        "roothaan": Roothaan(),
        "cdiis": CDIIS(),
        "optimal_damping": OptimalDamping(),
        "level_shift + cdiis": LevelShift(CDIIS(), 0.25),
    }
    more: dict[str, AbstractAccelerator[Any]] = {
        "second_order": SecondOrder(),
        "mixing": Mixing(),
        "anderson": Anderson(),
        "ediis": EDIIS(),
        "adiis": ADIIS(),
        "damping + cdiis": Damping(CDIIS()),
    }
    return some | more if full else some


class _Counted:
    """A function that counts how often it is called."""

    def __init__(self, function: Any) -> None:
        self.function, self.calls = function, 0

    def __call__(self, *arguments: Any, **options: Any) -> Any:
        self.calls += 1
        return self.function(*arguments, **options)


def pyscf_cdiis(case: MolecularCase) -> tuple[bool, int, float]:
    """PySCF with its own guess and CDIIS of 8: whether it converged, its Fock builds, and its energy."""
    scf = importlib.import_module("pyscf.scf")
    field = (scf.RHF if case.restricted else scf.UHF)(case.molecule())
    field.set(conv_tol=1e-9, conv_tol_grad=1e-5, max_cycle=_CYCLES, diis_space=8, diis_start_cycle=1)
    field.get_jk = counted = _Counted(field.get_jk)
    field.kernel()
    return bool(field.converged), counted.calls, float(field.e_tot)


@eqx.filter_jit
def _solve(system: System, accelerator: AbstractAccelerator[Any] | None) -> Solution:
    return solve(system, accelerator, max_cycles=_CYCLES)


def _converged(solution: Solution) -> bool:
    return bool(solution.result == RESULTS.converged)


def run(*, full: bool = False) -> Report:
    """Every molecule with the default, with others beside it, and with stability following."""
    with jax.enable_x64(True):
        return _run(_accelerators(full))


def _run(accelerators: dict[str, AbstractAccelerator[Any]]) -> Report:
    version = importlib.import_module("pyscf").__version__
    rows, excesses, ours_builds, their_builds, converged, lowest = [], [], 0, 0, 0, 0
    for name, case in MOLECULES.items():
        done, builds, energy = pyscf_cdiis(case)
        system = case.system()
        ours = _solve(system, None)
        followed = follow(system, ours)
        end = float(followed.solution.energy)
        bottom = lowest_known(name, [energy, float(ours.energy), end])
        converged += _converged(ours)
        ours_builds, their_builds = ours_builds + int(ours.fock_builds), their_builds + builds
        excesses.append(float(ours.energy) - energy if done else -np.inf)
        reached = _converged(followed.solution) and end < bottom + _APART
        lowest += reached
        row: dict[str, Any] = {
            "molecule": name,
            "pyscf": _text(done, builds, energy, bottom),
            "default": _text(_converged(ours), int(ours.fock_builds), float(ours.energy), bottom),
        }
        for label, accelerator in accelerators.items():
            other = _solve(system, accelerator)
            row[label] = _text(_converged(other), int(other.fock_builds), float(other.energy), bottom)
        row["energy excess"] = excesses[-1]
        row["followed"] = _text(_converged(followed.solution), int(followed.fock_builds), end, bottom)
        rows.append(row)
        # Programs for one size are of no use for the next.
        jax.clear_caches()
    count = len(MOLECULES)
    note = f"{ours_builds} builds against {their_builds}, PySCF {version}, CDIIS(8) from its default guess"
    claims = [
        Claim("converged", float(converged), f"of {count}, with the default accelerator and guess"),
        Claim("fock_builds_vs_pyscf_cdiis", ours_builds / their_builds, note),
        Claim("max_energy_excess", float(np.max(excesses)), "hartree, over PySCF's energy; lower ones are fine"),
        Claim("lowest_with_following", float(lowest), f"of {count} within {_APART:g} of the lowest energy known"),
    ]
    notes = [
        "Fock builds, that of the guess and hidden ones included; `-` after those of a calculation that did not "
        "converge, `*` after those that ended at the lowest energy known. `followed`: all builds with analyses of "
        "stability and descents. Both stop at a change of the energy of 1e-9 and a gradient of 1e-5 hartree.",
    ]
    return Report([0], rows, claims, notes)


def _text(converged: bool, builds: int, energy: float, bottom: float) -> str:
    return f"{builds}{'' if converged else '-'}{'*' if converged and energy < bottom + _APART else ''}"
