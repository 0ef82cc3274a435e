"""Electrons at a temperature."""

import importlib
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.test_util as jtest
import numpy as np
import pytest

from metaopt import scf
from metaopt.scf.systems._orbitals import smear

from .gaussians import hydrogens


pytestmark = pytest.mark.usefixtures("x64")


def _matrix(spins: int, n: int) -> jax.Array:
    noise = np.random.default_rng(0).normal(size=(spins, n, n))
    return jnp.asarray(noise + noise.swapaxes(-1, -2))


def test_occupations_are_those_of_fermi_and_dirac() -> None:
    fock = _matrix(2, 5)
    density = smear(fock, (3, 1), jnp.asarray(0.4))
    energies, orbitals = np.linalg.eigh(fock)
    for s, count in enumerate((3, 1)):
        filled = np.diagonal(orbitals[s].T @ density[s] @ orbitals[s])
        np.testing.assert_allclose(filled.sum(), count, atol=1e-12)
        heights = np.log(1 / filled - 1)
        np.testing.assert_allclose(np.diff(heights), np.diff(energies[s]) / 0.4, rtol=1e-5)


@pytest.mark.slow
def test_derivatives_of_densities() -> None:
    def warm(fock: Any, temperature: Any) -> jax.Array:
        fock = jnp.asarray(fock)
        return smear(fock + fock.swapaxes(-1, -2), (3, 1), jnp.asarray(temperature))

    jtest.check_grads(warm, (_matrix(2, 5), jnp.asarray(0.4)), 1, atol=1e-5, rtol=1e-5)
    # Two orbitals of one energy.
    level = jnp.diag(jnp.array([0.0, 1.0, 1.0, 2.0]))[None]
    change = _matrix(1, 4)
    _, slope = jax.jvp(lambda f: smear(f, (2,), jnp.asarray(0.3)), (level,), (change,))
    ends = [smear(level + x * change, (2,), jnp.asarray(0.3)) for x in (1e-5, -1e-5)]
    np.testing.assert_allclose(slope, (ends[0] - ends[1]) / 2e-5, atol=1e-6)


@pytest.mark.slow
@pytest.mark.usefixtures("pyscf")
@pytest.mark.parametrize("spin", [0, 2])
def test_energies_are_those_of_pyscf(spin: int) -> None:
    atoms = "O 0 0 0; O 0 0 1.4" if spin else "N 0 0 0; N 0 0 1.6"
    gto, field = (importlib.import_module(f"pyscf.{name}") for name in ("gto", "scf"))
    made: Any = (field.UHF if spin else field.RHF)(gto.M(atom=atoms, basis="sto-3g", spin=spin, verbose=0))
    theirs = field.addons.smearing_(made, sigma=0.05, method="fermi", fix_spin=True)
    theirs.run(conv_tol=1e-11, conv_tol_grad=1e-7)
    system = scf.System.from_pyscf(atoms, spin=spin).smeared(0.05)
    ours = eqx.filter_jit(scf.solve)(system, scf.CDIIS(), gradient_tolerance=1e-7)
    assert ours.result == scf.RESULTS.converged
    np.testing.assert_allclose(ours.energy, theirs.e_tot, atol=1e-8)
    np.testing.assert_allclose(ours.energy - 0.05 * ours.entropy, theirs.e_free, atol=1e-8)
    np.testing.assert_allclose(jnp.sum(ours.occupations, axis=-1), system.counts, atol=1e-10)


@pytest.mark.slow
def test_a_cold_system_is_one_without_temperature() -> None:
    system = hydrogens(0.0, 1.5, 3.4, 5.0)
    plain, cold = scf.solve(system), scf.solve(system.smeared(1e-3))
    np.testing.assert_allclose(cold.energy, plain.energy, atol=1e-9)
    np.testing.assert_allclose(cold.occupations, plain.occupations, atol=1e-9)
    assert plain.entropy == 0 and cold.entropy < 1e-9


@pytest.mark.slow
@pytest.mark.parametrize("spins", [1, 2])
def test_derivatives_of_solutions(spins: int) -> None:
    system = hydrogens(0.0, 1.5, 3.4, 5.0)
    system = system if spins == 1 else system.unrestricted()
    rng = np.random.default_rng(0)
    change, stretch = (jnp.asarray(x + x.T) for x in 0.05 * rng.normal(size=(2, *system.core.shape)))
    weights = jnp.asarray(rng.normal(size=system.core.shape))

    @jax.jit
    def outcomes(core: jax.Array, overlap: jax.Array, temperature: jax.Array) -> jax.Array:
        moved = eqx.tree_at(
            lambda s: (s.core, s.overlap), system, (system.core + core * change, system.overlap + overlap * stretch)
        )
        found = scf.solve(moved.smeared(temperature), energy_tolerance=1e-13, gradient_tolerance=1e-10)
        free = found.energy - temperature * found.entropy
        return jnp.stack([found.energy, found.entropy, free, *[jnp.sum(weights * d) for d in found.density]])

    at = (jnp.asarray(0.0), jnp.asarray(0.0), jnp.asarray(0.15))
    forward, backward = (jax.jit(f(outcomes, argnums=(0, 1, 2)))(*at) for f in (jax.jacfwd, jax.jacrev))
    for i, (slope, transposed) in enumerate(zip(forward, backward, strict=True)):
        ends = [outcomes(*(x + h * (i == k) for k, x in enumerate(at))) for h in (1e-4, -1e-4)]
        np.testing.assert_allclose(slope, (ends[0] - ends[1]) / 2e-4, rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(transposed, slope, atol=1e-8)
    # The free energy falls with the temperature by the entropy.
    np.testing.assert_allclose(forward[2][2], -outcomes(*at)[1], atol=1e-8)


def test_what_is_refused() -> None:
    with pytest.raises(ValueError, match="`temperature` must be positive"):
        hydrogens(0.0, 1.4).smeared(0.0)
