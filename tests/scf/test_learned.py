"""What is learned of a family of geometries: geometry, guess and response."""

import dataclasses
import functools as ft
from typing import Any

import equinox as eqx
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.linalg

from metaopt import scf
from metaopt.scf.guesses._grassmann import coordinates, exponential, logarithm, nearest_orbitals, span
from metaopt.scf.systems._geometry import fitting_turn, representation, symmetries, turning

from .gaussians import hydrogens


pytestmark = pytest.mark.usefixtures("x64")
WATER = np.array([[0.0, 0.0, 0.1178], [0.0, 0.7555, -0.4712], [0.0, -0.7555, -0.4712]])


def _turn(seed: int) -> np.ndarray:
    q, _ = np.linalg.qr(np.random.default_rng(seed).normal(size=(3, 3)))
    return q * np.linalg.det(q)


def _water(positions: np.ndarray, basis: str = "6-31g", **options: Any) -> scf.System:
    atoms = [(symbol, tuple(map(float, at))) for symbol, at in zip("OHH", positions, strict=True)]
    return scf.System.from_pyscf(atoms, basis=basis, **options)


def _moved(count: int, size: float, seed: int) -> list[np.ndarray]:
    return [WATER + np.random.default_rng([seed, i]).normal(0, size, WATER.shape) for i in range(count)]


@pytest.mark.parametrize("degree", [0, 1, 2, 3, 4])
def test_representations_are_orthogonal_and_multiply(degree: int) -> None:
    a, b = _turn(1), -_turn(2)
    first, second, both = (np.asarray(representation(degree, jnp.asarray(x))) for x in (a, b, a @ b))
    np.testing.assert_allclose(first @ first.T, np.eye(2 * degree + 1), atol=1e-12)
    np.testing.assert_allclose(first @ second, both, atol=1e-12)


@pytest.mark.slow
@pytest.mark.usefixtures("pyscf")
def test_integrals_turn_as_molecules_do() -> None:
    turn = _turn(3)
    system, turned = _water(WATER, "cc-pvtz"), _water(WATER @ turn.T, "cc-pvtz")
    assert system.geometry is not None
    matrix = turning(system.geometry.shells, jnp.asarray(turn))
    np.testing.assert_allclose(matrix @ system.core @ matrix.T, turned.core, atol=1e-9)


@pytest.mark.usefixtures("pyscf")
def test_symmetric_images_have_the_integrals_of_the_molecule() -> None:
    system = _water(WATER)
    assert system.geometry is not None
    found = symmetries("OHH", np.asarray(system.geometry.positions), 1e-3)
    assert len(found) == 4 and found[0][0] == (0, 1, 2)
    for order, turn in found:
        matrix = turning(system.geometry.shells, jnp.asarray(turn), order)
        np.testing.assert_allclose(matrix @ system.core @ matrix.T, system.core, atol=1e-9)


def test_a_turn_is_found_back() -> None:
    turn = _turn(4)
    found = fitting_turn(jnp.asarray(WATER), jnp.asarray(WATER @ turn.T + 1.0))
    np.testing.assert_allclose(found, turn, atol=1e-12)


def test_coordinates_of_spans() -> None:
    rng = np.random.default_rng(0)
    orbitals = jnp.asarray(np.linalg.qr(rng.normal(size=(7, 7)))[0])
    occupied, virtual = orbitals[:, :3], orbitals[:, 3:]
    x = jnp.asarray(0.3 * rng.normal(size=(4, 3)))
    projector = span(x, occupied, virtual)
    np.testing.assert_allclose(projector @ projector, projector, atol=1e-12)
    np.testing.assert_allclose(coordinates(projector, occupied, virtual), x, atol=1e-12)
    np.testing.assert_allclose(exponential(logarithm(x)), x, atol=1e-12)
    near, rest = nearest_orbitals(x, occupied, virtual)
    np.testing.assert_allclose(near @ near.T, projector, atol=1e-12)
    np.testing.assert_allclose(rest @ rest.T, jnp.eye(7) - projector, atol=1e-12)
    # Along the geodesic orbitals turn as by the exponential of an antisymmetric matrix.
    tangent = virtual @ logarithm(x) @ occupied.T
    turned = scipy.linalg.expm(np.asarray(tangent - tangent.T)) @ occupied
    np.testing.assert_allclose(turned @ turned.T, projector, atol=1e-12)


@ft.cache
def _family() -> Any:
    systems = scf.stack([_water(at) for at in _moved(24, 0.04, seed=0)])
    run = eqx.filter_jit(lambda s, a, g: eqx.filter_vmap(lambda x: scf.solve(x, a, guess=g))(s))
    solutions = run(systems, None, None)
    middle = _water(WATER)
    learned = scf.LearnedGuess.fit(systems, solutions)
    response = scf.LearnedResponse.fit(middle, eqx.filter_jit(scf.solve)(middle))
    unseen = scf.stack([_water(at @ _turn(i).T) for i, at in enumerate(_moved(6, 0.04, seed=1))])
    return run, learned, response, unseen


@pytest.mark.usefixtures("pyscf")
@pytest.mark.slow
def test_a_learned_guess_saves_cycles_for_unseen_turned_geometries() -> None:
    run, learned, response, unseen = _family()
    default, better = run(unseen, None, None), run(unseen, None, learned)
    assert learned.examples.shape[0] == 4 * 24
    np.testing.assert_allclose(better.energy, default.energy, atol=1e-9)
    assert jnp.mean(better.cycles) < 0.5 * jnp.mean(default.cycles)
    far = run(unseen, scf.Guarded(response), None)
    np.testing.assert_allclose(far.energy, default.energy, atol=1e-9)
    assert jnp.mean(far.cycles) < 0.8 * jnp.mean(default.cycles)


@pytest.mark.slow
@pytest.mark.usefixtures("pyscf")
def test_far_geometries_get_the_classical_guess() -> None:
    run, learned, _, unseen = _family()
    far = _water(np.array([[0.0, 0.0, 0.0], [0.0, 0.0, 2.5], [0.0, 1.5, 0.0]]))
    assert learned.variance(far) > learned.limit
    assert jnp.all(eqx.filter_vmap(learned.variance)(unseen) < learned.limit)
    far = scf.stack([far] * 6)
    np.testing.assert_array_equal(run(far, None, learned).fock_builds, run(far, None, None).fock_builds)


def test_a_system_without_a_geometry_is_refused() -> None:
    system = hydrogens(0.0, 1.4)
    with pytest.raises(ValueError, match="needs to know the `geometry`"):
        scf.LearnedResponse.fit(system, scf.solve(system))
    with pytest.raises(ValueError, match="The shells of `geometry` have 1 functions, but there are 2"):
        dataclasses.replace(system, geometry=scf.Geometry(jnp.zeros((1, 3)), ("H",), ((0, 0),)))


@pytest.mark.slow
@pytest.mark.usefixtures("pyscf")
def test_too_few_examples_are_refused() -> None:
    systems = scf.stack([_water(at, "sto-3g") for at in _moved(2, 0.04, seed=2)])
    solutions = eqx.filter_vmap(scf.solve)(systems)
    with pytest.raises(ValueError, match="At least 8 solved geometries were wanted, but 2"):
        scf.LearnedGuess.fit(systems, solutions)


@pytest.mark.slow
@pytest.mark.usefixtures("pyscf")
def test_extrapolation_along_a_path() -> None:
    rng = np.random.default_rng(0)
    amplitudes, phases = rng.normal(0, 0.05, WATER.shape), rng.uniform(0, 6.3, WATER.shape)
    path = [WATER + amplitudes * np.sin(0.15 * t + phases) for t in range(10)]
    turn = _turn(7)
    systems = [_water(at @ turn.T if t % 2 else at) for t, at in enumerate(path)]
    run = eqx.filter_jit(lambda s, g: scf.solve(s, guess=g))
    add = eqx.filter_jit(lambda p, s, x: p.add(s, x))
    first = run(systems[0], None)
    memory, cycles, default = scf.Extrapolation.start(systems[0], first), [], []
    for system in systems[1:]:
        found, plain = run(system, memory), run(system, None)
        np.testing.assert_allclose(found.energy, plain.energy, atol=1e-9)
        memory = add(memory, system, found)
        cycles.append(int(found.cycles))
        default.append(int(plain.cycles))
    assert sum(cycles[4:]) <= 0.5 * sum(default[4:])
    with pytest.raises(ValueError, match="`history` must be at least 2, but 1"):
        scf.Extrapolation.start(systems[0], first, history=1)
