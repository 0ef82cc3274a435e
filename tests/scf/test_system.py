"""Systems of arrays: the forms that integrals come in, and what is refused."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from metaopt import scf
from metaopt.scf import System

from .gaussians import arrays, hydrogens, shell


H2 = [(0.0, 0.0, 0.0), (0.0, 0.0, 1.4)]
pytestmark = pytest.mark.usefixtures("x64")


def _arrays() -> dict[str, Any]:
    return arrays([shell(place) for place in H2], [(1.0, place) for place in H2])


def _triangle(matrix: np.ndarray) -> np.ndarray:
    return matrix[np.tril_indices(len(matrix))]


def test_all_forms_of_integrals_are_the_same() -> None:
    whole = arrays([shell((0.0, 0.3 * z, 1.1 * z), 1.0 + 0.1 * z) for z in range(3)], [(1.0, (0.0, 0.0, 0.0))])
    rows, columns = np.tril_indices(3)
    four = whole["repulsion"][rows, columns][:, rows, columns]
    density = np.random.default_rng(0).normal(size=(3, 3))
    density = density + density.T
    coulomb = np.einsum("ijkl,kl->ij", whole["repulsion"], density)
    exchange = np.einsum("ikjl,kl->ij", whole["repulsion"], density)
    values, vectors = np.linalg.eigh(four)
    factors = (vectors * np.sqrt(np.maximum(values, 0))).T
    options: dict[str, Any] = dict(electrons=2)
    for repulsion, fitted in ((whole["repulsion"], False), (four, False), (_triangle(four), False), (factors, True)):
        system = System.from_arrays(**(whole | options | {"repulsion": repulsion, "fitted": fitted}))
        assert isinstance(system.interaction, scf.DensityFitted if fitted else scf.PairPacked)
        np.testing.assert_allclose(system.interaction.coulomb(jnp.asarray(density)), coulomb, atol=1e-12)
        np.testing.assert_allclose(system.interaction.exchange(jnp.asarray(density)), exchange, atol=1e-12)


def test_single_precision_is_refused() -> None:
    with jax.enable_x64(False), pytest.raises(ValueError, match=r"needs double precision.*jax_enable_x64"):
        System.from_arrays(**_arrays(), electrons=2)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"electrons": 3, "restricted": True}, r"odd number of electrons, 3 \(2 up, 1 down\)"),
        ({"electrons": (2, 0), "restricted": True}, "there is 2 unpaired electrons"),
        ({"electrons": (3, 1)}, "2 functions have no room for 3 and 1 electrons"),
        ({"electrons": (2, -1)}, "not fewer than none"),
        ({"electrons": 0}, "There must be electrons"),
        ({"core": np.full((2, 2), np.nan)}, "`core` holds numbers that are not finite"),
        ({"repulsion": np.full((2,) * 4, np.inf)}, "`repulsion` holds numbers that are not finite"),
        ({"overlap": np.ones((2, 2))}, "linearly dependent: the smallest eigenvalue of the overlap is"),
        ({"overlap": np.eye(3)}, r"`core` must be a matrix \[3, 3\], but its shape is \[2, 2\]"),
        ({"core": np.array([[0.0, 1.0], [0.0, 0.0]])}, "`core` must be symmetric"),
        ({"repulsion": np.zeros((2, 2))}, r"Two-electron integrals of 2 functions have shape .* but \(2, 2\)"),
        ({"repulsion": np.zeros((5, 4)), "fitted": True}, r"Factors of density fitting for 2 functions"),
        ({"nuclear_energy": np.zeros(2)}, "`nuclear_energy` must be a number"),
        ({"guess": np.zeros((3, 3))}, r"`guess` must be a matrix \[2, 2\]"),
        ({"max_gib": 1e-9}, r"would take 1.34e-07 GiB, but at most 1e-09 GiB are allowed. Raise `max_gib`"),
    ],
)
def test_what_is_refused(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        System.from_arrays(**({**_arrays(), "electrons": 2, **changes}))


def test_kinds() -> None:
    assert hydrogens(0.0, 1.4).restricted
    assert hydrogens(0.0, 1.4).electrons == (1, 1)
    odd = hydrogens(0.0, 1.4, 3.0)
    assert not odd.restricted and odd.counts == (2, 1) and odd.weight == 1
    assert not hydrogens(0.0, 1.4).unrestricted().restricted


def test_stacked_systems_are_solved_one_by_one() -> None:
    systems = [hydrogens(0.0, r) for r in (1.2, 1.4, 1.9)]
    together = eqx.filter_jit(eqx.filter_vmap(lambda s: scf.solve(s)))(scf.stack(systems))
    for index, system in enumerate(systems):
        alone = scf.solve(system)
        np.testing.assert_allclose(together.energy[index], alone.energy, atol=1e-12)
        assert together.fock_builds[index] == alone.fock_builds


def test_systems_of_other_sizes_are_not_stacked() -> None:
    with pytest.raises(ValueError, match="2 kinds were given"):
        scf.stack([hydrogens(0.0, 1.4), hydrogens(0.0, 1.4, 2.8, 4.2)])
    with pytest.raises(ValueError, match="at least one"):
        scf.stack([])
