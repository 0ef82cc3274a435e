"""Every accelerator ends at the same energy, keeps its state, and can be differentiated by its numbers.

These are the laws of accelerators. Those of all algorithms (`tests/laws`) are about trees of any parameters and their
gradients; a Fock matrix without its density and energy is no problem that an accelerator could go on with.
"""

import functools as ft
import pathlib
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import jax.tree_util as jtu
import numpy as np
import pytest

import metaopt
from metaopt import rl, scf
from metaopt.registry import DEFAULT
from tests._cases import fast

from .gaussians import hydrogens


OPTIONS: dict[str, dict[str, Any]] = {
    "roothaan": {},
    "mixing": {"rate": 0.7},
    "optimal_damping": {},
    "anderson": {"history": 4},
    "cdiis": {"history": 4},
    "ediis": {"history": 3},
    "adiis": {"history": 3},
    "switching": {"far": {"name": "adiis", "history": 3}},
    "second_order": {"iterations": 4},
    "surrogate": {"base": {"name": "cdiis", "history": 4}, "history": 4, "iterations": 3},
    "learned_accelerator": {"base": {"name": "cdiis", "history": 4}, "hidden_size": 3, "iterations": 3},
    "level_shift": {"shift": 0.25, "inner": {"name": "cdiis", "history": 4}},
    "damping": {"factor": 0.2, "inner": "roothaan"},
    "steered": {"bases": ["roothaan", {"name": "cdiis", "history": 4}], "choices": [[1, 2.0, 0.25, 0.2]]},
    "restarted": {"inner": {"name": "cdiis", "history": 4}},
    "guarded": {"inner": "roothaan"},
}
# These have no numbers, and those have numbers that do nothing in so few cycles.
WITHOUT = {"roothaan", "cdiis", "ediis", "adiis"}
SILENT = {"optimal_damping", "second_order", "restarted", "guarded", "switching"}
# An untrained one stands at the edge of what its moves are clipped to, where there is no derivative.
EDGE = {"learned_accelerator"}
# One of each kind: an iteration, an extrapolation, a choice, second derivatives, a model, a network and two wrappers.
_SOME = fast(
    list(OPTIONS),
    *("cdiis", "switching", "second_order", "surrogate", "damping"),
)
pytestmark = pytest.mark.usefixtures("x64")


def make(name: str) -> scf.AbstractAccelerator[Any]:
    return metaopt.build({"name": name, **OPTIONS[name]}, scf.AbstractAccelerator)


@ft.cache
def closed() -> scf.System:
    return hydrogens(0.0, 1.5, 3.4, 5.0, diffuse=True)


@ft.cache
def open_shell() -> scf.System:
    return hydrogens(0.0, 1.6, 3.6)


def test_every_registered_accelerator_is_in_the_table() -> None:
    assert set(OPTIONS) == set(DEFAULT.names(scf.AbstractAccelerator))


@ft.cache
def _reference(restricted: bool) -> tuple[float, np.ndarray]:
    """The plain iteration, written out in NumPy."""
    system = closed() if restricted else open_shell()
    s, h = np.asarray(system.overlap), np.asarray(system.core)
    values, vectors = np.linalg.eigh(s)
    x = vectors / np.sqrt(values)
    focks, energy, densities = [h] * len(system.counts), 0.0, []
    for _ in range(2000):
        densities = []
        for fock, count in zip(focks, system.counts, strict=True):
            orbitals = x @ np.linalg.eigh(x.T @ fock @ x)[1][:, :count]
            densities.append(orbitals @ orbitals.T)
        total = system.weight * sum(densities)
        repulsion = np.asarray(system.interaction.coulomb(jnp.asarray(total)))
        new = [h + repulsion - np.asarray(system.interaction.exchange(jnp.asarray(d))) for d in densities]
        energy = sum(0.5 * system.weight * np.sum(d * (h + f)) for d, f in zip(densities, new, strict=True))
        if max(float(np.abs(a - b).max()) for a, b in zip(new, focks, strict=True)) < 1e-11:
            break
        focks = new
    return float(energy + system.nuclear_energy), np.stack(densities)


@pytest.mark.parametrize("restricted", [True, pytest.param(False, marks=pytest.mark.slow)])
@pytest.mark.parametrize("name", _SOME)
def test_same_energy_and_density(name: str, restricted: bool) -> None:
    system = closed() if restricted else open_shell()
    energy, density = _reference(restricted)
    found = eqx.filter_jit(scf.solve)(system, make(name), max_cycles=300, gradient_tolerance=1e-7)
    assert found.result == scf.RESULTS.converged
    np.testing.assert_allclose(found.energy, energy, atol=1e-10)
    np.testing.assert_allclose(found.density, density, atol=1e-6)
    hidden = 4 * found.cycles if name == "second_order" else 0
    assert found.fock_builds == 1 + found.cycles + hidden


def _signal(system: scf.System, seed: int) -> tuple[jax.Array, scf.Signal]:
    spins, n = len(system.counts), system.functions
    noise = np.random.default_rng(seed).normal(size=(spins, n, n))
    fock = jnp.asarray(noise + noise.swapaxes(-1, -2))
    density = scf.solve(system).density
    residual = fock @ density - density @ fock
    operator = scf.Operator(system, jnp.eye(n))
    return fock, scf.Signal(residual, density, jnp.asarray(-1.0), jnp.asarray(float(system.weight)), operator)


@pytest.mark.parametrize("name", _SOME)
def test_a_step_keeps_structure_shapes_and_dtypes(name: str) -> None:
    accelerator = make(name)
    fock, signal = _signal(open_shell(), 0)
    state = eqx.filter_eval_shape(accelerator.init, fock)
    new_state, new = eqx.filter_eval_shape(accelerator.step, state, fock, signal, value=signal.energy)
    kinds = [[(x.shape, x.dtype, x.weak_type) for x in jtu.tree_leaves(tree)] for tree in (state, new_state)]
    assert kinds[0] == kinds[1]
    assert jtu.tree_structure(state) == jtu.tree_structure(new_state)
    assert (new.shape, new.dtype) == (fock.shape, fock.dtype)


def test_accelerators_go_through_the_door_to_optax() -> None:
    accelerator = make("cdiis")
    fock, signal = _signal(open_shell(), 0)
    tx: Any = metaopt.to_optax(accelerator)
    state = accelerator.init(fock)
    updates, theirs = tx.update(signal, state, fock, value=signal.energy)
    ours, new = accelerator.step(state, fock, signal, value=signal.energy)
    np.testing.assert_allclose(fock + updates, new, atol=1e-12)
    assert eqx.tree_equal(theirs, ours)


@pytest.mark.slow
@pytest.mark.parametrize("name", OPTIONS)
def test_zero_residuals_give_finite_numbers(name: str) -> None:
    accelerator = make(name)
    fock, signal = _signal(open_shell(), 0)
    signal = eqx.tree_at(lambda x: (x.residual, x.density), signal, replace_fn=jnp.zeros_like)
    state = accelerator.init(jnp.zeros_like(fock))
    for _ in range(2):
        state, new = accelerator.step(state, jnp.zeros_like(fock), signal, value=signal.energy)
        assert all(bool(jnp.all(jnp.isfinite(x))) for x in jtu.tree_leaves(new))


@pytest.mark.slow
@pytest.mark.parametrize("name", [n for n in OPTIONS if n not in WITHOUT | EDGE])
def test_derivatives_by_numbers_are_finite_differences(name: str) -> None:
    numbers, rest = eqx.partition(make(name), eqx.is_inexact_array)
    # Not inside of a trace, which would be remembered.
    system = closed()

    @eqx.filter_jit
    def total(numbers: Any) -> jax.Array:
        path = scf.unroll(system, eqx.combine(numbers, rest), cycles=3)
        return jnp.sum(path.energies) + jnp.sum(path.gradient_norms)

    grads = jtu.tree_leaves(eqx.filter_jit(eqx.filter_grad(total))(numbers))
    leaves, structure = jtu.tree_flatten(numbers)
    for i, grad in enumerate(grads):
        ends = []
        for sign in (1, -1):
            moved = [x + (sign * 1e-5 if j == i else 0) for j, x in enumerate(leaves)]
            ends.append(total(jtu.tree_unflatten(structure, moved)))
        np.testing.assert_allclose(jnp.sum(grad), (ends[0] - ends[1]) / 2e-5, rtol=1e-5, atol=1e-8)
    if name not in SILENT:
        assert any(jnp.any(jnp.abs(grad) > 1e-6) for grad in grads)


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ({"name": "cdiis", "history": 0}, "`history` must be at least 1, but 0"),
        ({"name": "ediis", "history": 9}, "`history` must be between 1 and 8, but 9"),
        ({"name": "second_order", "iterations": 0}, "`iterations` must be at least 1"),
        ({"name": "mixing", "rate": 0.0}, "`rate` must be positive, but 0.0"),
        ({"name": "damping", "inner": "cdiis", "factor": 1.0}, "`factor` must be at least 0 and less than 1, but 1.0"),
        ({"name": "guarded", "inner": "cdiis", "patience": 0}, "`patience` must be at least 1"),
    ],
)
def test_what_is_refused(spec: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        metaopt.build(spec, scf.AbstractAccelerator)


def test_optimal_damping_never_raises_the_energy_of_what_it_mixes() -> None:
    system = hydrogens(0.0, 1.5, 4.0, 9.0)
    accelerator = scf.OptimalDamping()
    operator = scf.Operator(system, jnp.asarray(np.linalg.inv(np.linalg.cholesky(np.asarray(system.overlap))).T))
    density = jnp.zeros((1, 4, 4)).at[0, :2, :2].set(jnp.eye(2))
    fock, energy = operator.fock(density)
    state, mixed = accelerator.init(fock), []
    for _ in range(8):
        residual = fock @ density - density @ fock
        signal = scf.Signal(residual, density, energy, jnp.asarray(2.0), operator)
        state, proposed = accelerator.step(state, fock, signal)
        mixed.append(float(operator.fock(state.density)[1]))
        orbitals = jnp.linalg.eigh(proposed)[1][:, :, :2]
        density = orbitals @ orbitals.swapaxes(-1, -2)
        fock, energy = operator.fock(density)
    assert all(later < earlier + 1e-12 for earlier, later in zip(mixed, mixed[1:], strict=False))


def test_the_smallest_value_on_a_simplex() -> None:
    from metaopt.scf.accelerators._simplex import minimize_on_simplex

    generator = np.random.default_rng(0)
    for trial in range(5):
        b, a = generator.normal(size=3), generator.normal(size=(3, 3))
        a = a + a.T + (3 * np.eye(3) if trial % 2 else 0)
        valid = np.array([True, True, trial != 4])
        found = minimize_on_simplex(jnp.asarray(b), jnp.asarray(a), jnp.asarray(valid))
        grid = np.linspace(0, 1, 101)
        points = np.array([(x, y, 1 - x - y) for x in grid for y in grid if x + y <= 1 + 1e-12])
        points = points[(points[:, 2] < 1e-12) | valid[2]]
        values = points @ b + 0.5 * np.einsum("pi,ij,pj->p", points, a, points)
        assert found @ b + 0.5 * (found @ a @ found) <= values.min() + 1e-12
        np.testing.assert_allclose(jnp.sum(found), 1.0, atol=1e-12)
        assert jnp.all(found >= 0) and (valid[2] or found[2] == 0)


@pytest.mark.slow
def test_a_restart_forgets() -> None:
    accelerator = scf.Restarted(scf.CDIIS(history=3), growth=2.0)
    fock, signal = _signal(open_shell(), 0)
    state = accelerator.init(fock)
    for scale, restarts, kept in ((1.0, 0, 1), (1.5, 0, 2), (3.5, 1, 1), (4.0, 1, 2)):
        grown = eqx.tree_at(lambda x: x.residual, signal, signal.residual * scale)
        state, _ = accelerator.step(state, fock, grown)
        assert state.restarts == restarts and state.inner.count == kept


def test_the_guard_follows_the_fallback_while_it_must() -> None:
    fock, signal = _signal(open_shell(), 0)
    accelerator = scf.Guarded(scf.LevelShift(scf.Roothaan(), 5.0), scf.Roothaan(), growth=2.0, patience=2)
    state = accelerator.init(fock)
    for scale, guarded in ((1.0, False), (1.5, False), (3.0, True), (1.0, True), (1.0, False)):
        grown = eqx.tree_at(lambda x: x.residual, signal, signal.residual * scale)
        state, proposed = accelerator.step(state, fock, grown)
        assert bool(jnp.all(proposed == fock)) is guarded
    assert state.calls == 1


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_bad_residual_leaves_no_trace_in_the_guard(bad: float) -> None:
    fock, signal = _signal(open_shell(), 0)
    accelerator = scf.Guarded(scf.CDIIS(history=4), scf.CDIIS(history=4))
    state, _ = accelerator.step(accelerator.init(fock), fock, signal)
    spoiled = eqx.tree_at(lambda x: x.residual, signal, signal.residual.at[0, 0, 0].set(bad))
    after, proposed = accelerator.step(state, fock, spoiled)
    assert bool(jnp.all(jnp.isfinite(proposed)))
    assert eqx.tree_equal((after.inner, after.fallback, after.smallest), (state.inner, state.fallback, state.smallest))
    assert after.calls == 1
    _, proposed = accelerator.step(after, fock, signal)
    assert bool(jnp.all(jnp.isfinite(proposed)))


@pytest.mark.slow
def test_steering_takes_the_choice_of_the_actor() -> None:
    base, other = scf.CDIIS(history=4), scf.Roothaan()
    choices = jnp.asarray([[0, 0, 0, 0], [1, 0, 0, 0], [0, 0, 0.25, 0], [0, 0, 0, 0.4], [1, 1, 0, 0]], float)
    alone = [base, other, scf.LevelShift(base, 0.25), scf.Damping(base, 0.4), scf.Surrogate(other)]
    system = closed()

    @eqx.filter_jit
    def energies(accelerator: Any) -> jax.Array:
        return scf.unroll(system, accelerator, cycles=4).energies

    @eqx.filter_jit
    def steered(choice: Any) -> jax.Array:
        return energies(scf.Steered((base, other), lambda seen: jnp.where(seen[0] > -9, choice, 0), choices))

    for choice, fixed in enumerate(alone):
        np.testing.assert_allclose(steered(jnp.asarray(choice)), energies(fixed), rtol=1e-12)
    with pytest.raises(ValueError, match="rows of the number of a base"):
        scf.Steered(choices=jnp.ones(2))


@pytest.mark.slow
def test_steering_is_saved_with_its_actor(tmp_path: pathlib.Path) -> None:
    def made(seed: int) -> scf.Steered:
        network = rl.Network((8, 4, 6), 1.0, key=jr.key(seed))
        return scf.Steered((scf.Roothaan(), scf.CDIIS(history=4)), rl.Actor(network, rl.Discrete(6)))

    metaopt.save(tmp_path / "steered", made(0))
    read = metaopt.load(tmp_path / "steered", made(1))
    fock, signal = _signal(closed(), 0)
    state = made(0).init(fock)
    seen = made(0).observe(state, fock, signal)
    assert read.actor is not None and seen.shape == (read.features,)
    assert eqx.tree_equal(read, made(0)) and not eqx.tree_equal(read, made(1))


@pytest.mark.slow
def test_steering_begins_anew_when_patience_ends() -> None:
    base, choices = scf.CDIIS(history=4), jnp.asarray([[0, 0, 0, 0], [0, 0, 5.0, 0.6]])
    poor = scf.Steered((base,), lambda seen: jnp.where(seen[0] > -9, 1, 0), choices, patience=3)
    found, fixed = (eqx.filter_jit(scf.unroll)(closed(), each, cycles=8).energies for each in (poor, base))
    assert float(jnp.abs(found[2] - fixed[2])) > 1e-4
    np.testing.assert_allclose(found[4:], fixed[1:-3], rtol=1e-12)
