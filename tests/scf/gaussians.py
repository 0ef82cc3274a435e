"""Integrals of s-type Gaussians, in closed form, for systems that need no other program."""

import itertools as it
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from metaopt.scf import System


# STO-3G of a 1s orbital with exponent one, as in Szabo and Ostlund, "Modern Quantum Chemistry", table 3.7.
_EXPONENTS = np.array([0.109818, 0.405771, 2.22766])
_COEFFICIENTS = np.array([0.444635, 0.535328, 0.154329])


def shell(at: Sequence[float], zeta: float = 1.24) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A contracted function: exponents, coefficients that include norms, and its place."""
    exponents = _EXPONENTS * zeta**2
    return exponents, _COEFFICIENTS * (2 * exponents / math.pi) ** 0.75, np.asarray(at, float)


def single(at: Sequence[float], exponent: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """One normalized Gaussian."""
    exponents = np.array([exponent])
    return exponents, (2 * exponents / math.pi) ** 0.75, np.asarray(at, float)


def _boys(t: float) -> float:
    return 1 - t / 3 if t < 1e-6 else 0.5 * math.sqrt(math.pi / t) * math.erf(math.sqrt(t))


def arrays(shells: Sequence[Any], nuclei: Sequence[tuple[float, Sequence[float]]]) -> dict[str, Any]:
    """Overlap, core Hamiltonian, repulsion and nuclear energy."""
    n = len(shells)
    overlap, core = np.zeros((n, n)), np.zeros((n, n))
    # Of each pair of functions: total exponent, prefactor and center of each pair of Gaussians.
    products: dict[tuple[int, int], list[tuple[float, float, np.ndarray]]] = {}
    for i, j in it.product(range(n), repeat=2):
        (ea, ca, ra), (eb, cb, rb) = shells[i], shells[j]
        apart = float(np.sum((ra - rb) ** 2))
        products[i, j] = []
        for a, b in it.product(range(len(ea)), range(len(eb))):
            p, mu = ea[a] + eb[b], ea[a] * eb[b] / (ea[a] + eb[b])
            factor = ca[a] * cb[b] * math.exp(-mu * apart)
            center = (ea[a] * ra + eb[b] * rb) / p
            products[i, j].append((p, factor, center))
            pair = factor * (math.pi / p) ** 1.5
            overlap[i, j] += pair
            core[i, j] += pair * mu * (3 - 2 * mu * apart)
            for charge, at in nuclei:
                reach = p * float(np.sum((center - np.asarray(at)) ** 2))
                core[i, j] -= charge * factor * 2 * math.pi / p * _boys(reach)
    repulsion = np.zeros((n,) * 4)
    for i, j, k, m in it.product(range(n), repeat=4):
        for (p, x, rp), (q, y, rq) in it.product(products[i, j], products[k, m]):
            reach = p * q / (p + q) * float(np.sum((rp - rq) ** 2))
            repulsion[i, j, k, m] += x * y * 2 * math.pi**2.5 / (p * q * math.sqrt(p + q)) * _boys(reach)
    nuclear = sum(
        za * zb / float(np.linalg.norm(np.asarray(ra) - np.asarray(rb)))
        for (za, ra), (zb, rb) in it.combinations(nuclei, 2)
    )
    return {"overlap": overlap, "core": core, "repulsion": repulsion, "nuclear_energy": nuclear}


def hydrogens(*at: float, electrons: Any = None, restricted: bool | None = None, diffuse: bool = False) -> System:
    """Hydrogen atoms on a line, at these positions in bohr."""
    places = [(0.0, 0.0, z) for z in at]
    shells = [shell(place) for place in places] + [single(place, 0.4) for place in places if diffuse]
    found = arrays(shells, [(1.0, place) for place in places])
    return System.from_arrays(**found, electrons=len(at) if electrons is None else electrons, restricted=restricted)


def helium_hydride() -> System:
    """HeH+, as in Szabo and Ostlund, section 3.5.3."""
    helium, hydrogen = (0.0, 0.0, 0.0), (0.0, 0.0, 1.4632)
    shells = [shell(helium, 2.0925), shell(hydrogen, 1.24)]
    return System.from_arrays(**arrays(shells, [(2.0, helium), (1.0, hydrogen)]), electrons=2)
