"""Accelerators that are trained: the tasks, systems of one size, and the learned accelerator."""

import dataclasses
import functools as ft
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import optax
import pytest

import metaopt
from metaopt import meta, scf
from metaopt.scf.systems._cholesky import leading

from .gaussians import helium_hydride, hydrogens


pytestmark = pytest.mark.usefixtures("x64")
SPREADS = (1.3, 1.6, 1.9, 2.2)


@ft.cache
def chains() -> scf.System:
    return scf.stack([hydrogens(0.0, a, 3.4, 3.4 + a, diffuse=True) for a in SPREADS])


@pytest.mark.slow
def test_padded_systems_are_solved_as_they_were() -> None:
    solve = eqx.filter_jit(scf.solve)
    for system in (helium_hydride(), hydrogens(0.0, 1.6, 3.6)):
        system = dataclasses.replace(system, guess=jnp.linalg.inv(system.overlap))
        up, down = system.electrons
        wide = scf.pad(system, system.functions + 4, (up + 2, down + 2))
        plain, padded = solve(system, scf.CDIIS()), solve(wide, scf.CDIIS())
        np.testing.assert_allclose(padded.energy, plain.energy, atol=1e-10)
        assert padded.fock_builds == plain.fock_builds
    with pytest.raises(ValueError, match="cannot be padded to 3 functions"):
        scf.pad(helium_hydride(), 3, (3, 3))


@pytest.mark.slow
def test_a_task_goes_the_way_of_the_driver() -> None:
    system = hydrogens(0.0, 1.5, 3.4, 5.0, diffuse=True)
    path = scf.unroll(system, scf.CDIIS(), cycles=5)
    learner = metaopt.Learner(scf.Accelerated(scf.CDIIS()))
    found = metaopt.unroll(learner, scf.SelfConsistentField(system), steps=6, key=jr.key(0))
    ratio = path.gradient_norms / 1e-5
    np.testing.assert_allclose(found.values, ratio / (1 + ratio) + 0.1 * jnp.log10(1 + ratio), rtol=1e-5)


@pytest.mark.slow
def test_open_shells_begin_with_what_their_guess_makes() -> None:
    system = hydrogens(0.0, 1.6, 3.6)
    system = dataclasses.replace(system, guess=jnp.eye(3))
    found = metaopt.unroll(
        metaopt.Learner(scf.Accelerated(scf.CDIIS())), scf.SelfConsistentField(system), steps=20, key=jr.key(0)
    )
    assert found.values[-1] < 0.5 < found.values[0]


@pytest.mark.slow
def test_an_untrained_accelerator_is_its_base() -> None:
    system = hydrogens(0.0, 1.5, 3.4, 5.0, diffuse=True)
    base = scf.CDIIS(history=4)
    paths = [scf.unroll(system, a, cycles=6) for a in (base, scf.LearnedAccelerator(base, iterations=2))]
    np.testing.assert_array_equal(paths[0].energies, paths[1].energies)
    model = (
        scf.Surrogate(base, history=4, iterations=2),
        scf.LearnedAccelerator(base, history=4, iterations=2, share=1.0),
    )
    paths = [scf.unroll(system, a, cycles=6) for a in model]
    np.testing.assert_allclose(paths[0].energies, paths[1].energies, atol=1e-12)
    with pytest.raises(ValueError, match="`share` must be between 0 and 1, but 2.0"):
        scf.LearnedAccelerator(share=2.0)


def _features(system: scf.System, basis: jax.Array) -> jax.Array:
    from metaopt.scf.learned._learned_accelerator import features

    accelerator = scf.LearnedAccelerator(scf.Roothaan(), iterations=1)
    operator = scf.Operator(system, basis)
    fock = operator.into(system.core[None])
    state, seen = accelerator.init(fock), []
    for _ in range(3):
        orbitals = jnp.linalg.eigh(fock)[1][:, :, :2]
        density = orbitals @ orbitals.swapaxes(-1, -2)
        fock, energy = operator.fock(density)
        residual = fock @ density - density @ fock
        signal = scf.Signal(residual, density, energy, jnp.asarray(2.0), operator)
        past = state.past.add((fock, residual, density))
        seen.append(features(state, past, fock, signal)[jnp.array([3, 4, 5, 6, 7])])
        state, _ = accelerator.step(state, fock, signal)
    return jnp.stack(seen)


@pytest.mark.slow
def test_what_the_network_sees_does_not_depend_on_the_orthonormal_basis() -> None:
    system = hydrogens(0.0, 1.5, 4.0, 9.0)
    basis = jnp.asarray(np.linalg.inv(np.linalg.cholesky(np.asarray(system.overlap))).T)
    turn = jnp.asarray(np.linalg.qr(np.random.default_rng(0).normal(size=(4, 4)))[0])
    np.testing.assert_allclose(_features(system, basis), _features(system, basis @ turn), atol=1e-7)


@pytest.mark.slow
def test_meta_training_saves_cycles() -> None:
    base = scf.Mixing(rate=0.3)
    learner = metaopt.Learner(scf.Accelerated(scf.LearnedAccelerator(base, hidden_size=3, iterations=3)))
    family = scf.SelfConsistentFields(chains())

    def network(learner: Any) -> Any:
        return learner.algorithm.accelerator.network

    problem = meta.MetaProblem(family, meta.MeanLoss(), meta.ConstantHorizon(6), tasks=2, trainable=meta.only(network))
    trained = metaopt.meta_train(
        learner,
        problem,
        estimator=meta.ES(std=0.1),
        outer=metaopt.from_optax(optax.adam, learning_rate=0.05),
        steps=30,
        key=jr.key(0),
        validation=family,
        validation_tasks=4,
        progress=False,
    )
    losses = [loss for _, loss in trained.history.validations]
    assert min(losses) < 0.7 * losses[0]


@pytest.mark.slow
def test_leading_factors_are_those_of_the_integrals() -> None:
    system = hydrogens(0.0, 1.6, 3.6, diffuse=True)
    repulsion: Any = system.interaction
    direct, pairs, left = repulsion.direct, repulsion.direct.shape[0], []
    for share in (0.5, 1.0, pairs / system.functions):
        few = system.interaction.leading(share)
        assert few.shape == (round(share * system.functions), pairs)
        # What is left of a positive matrix is positive, and no element is larger than its diagonal ones.
        left.append(float(jnp.max(jnp.diagonal(direct - few.T @ few))))
        assert np.linalg.eigvalsh(direct - few.T @ few)[0] > -1e-10
    assert left[0] > left[1] > 1e3 * left[2]
    factors = jnp.asarray(np.random.default_rng(0).normal(size=(3, 6)))
    few = scf.DensityFitted(factors).leading(1.0)
    np.testing.assert_allclose(few.T @ few, factors.T @ factors, atol=1e-9)
    up, down = system.electrons
    wide = scf.pad(system, system.functions + 5, (up + 1, down + 1))
    few = wide.interaction.leading(1.0)
    assert int(jnp.sum(jnp.any(few != 0, axis=1))) <= system.functions


def test_leading_factors_have_the_symmetry_of_the_integrals() -> None:
    # Pairs 1 and 2 are exchanged by a symmetry, and only one of them would have a place.
    matrix = jnp.array([[3.0, 0.5, 0.5, 0.1], [0.5, 1.0, 0.2, 0.0], [0.5, 0.2, 1.0, 0.0], [0.1, 0.0, 0.0, 0.3]])
    for count, rank in ((1, 1), (2, 1), (3, 3), (4, 4)):
        few = leading(jnp.diagonal(matrix), lambda place: matrix[place], count, jnp.asarray(4.0))
        found = few.T @ few
        assert np.linalg.matrix_rank(found) == rank
        np.testing.assert_allclose(found[1, 1], found[2, 2], atol=1e-12)
    np.testing.assert_allclose(found, matrix, atol=1e-12)


@pytest.mark.slow
@pytest.mark.usefixtures("pyscf")
def test_a_surrogate_saves_fock_builds_and_finds_the_same() -> None:
    system = scf.System.from_pyscf("O 0 0 0.1178; H 0 0.7555 -0.4712; H 0 -0.7555 -0.4712", basis="cc-pvdz")
    run = eqx.filter_jit(scf.solve)
    plain, modelled = run(system, scf.CDIIS()), run(system, scf.Surrogate())
    np.testing.assert_allclose(plain.energy, modelled.energy, atol=1e-8)
    assert int(modelled.fock_builds) <= 0.7 * int(plain.fock_builds)
