"""Metrics of fronts, against closed forms, loops and moocore."""

import itertools as it
from typing import Any

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

from metaopt.multiobjective import (
    crowding,
    das_dennis,
    hypervolume,
    igd_plus,
    nondominated,
    preferences,
    riesz_energy,
    spread,
)
from tests._cases import slow


_volume = jax.jit(hypervolume)


def _union(points: np.ndarray, reference: np.ndarray) -> float:
    """The volume by inclusion and exclusion."""
    total = 0.0
    for size in range(1, len(points) + 1):
        for chosen in it.combinations(points, size):
            total += (-1) ** (size + 1) * np.prod(np.maximum(reference - np.max(chosen, axis=0), 0))
    return total


@pytest.mark.parametrize("m", [2, 3])
def test_hypervolume_is_the_volume_of_the_union(m: int) -> None:
    generator = np.random.default_rng(m)
    for _ in range(20):
        points = generator.uniform(size=(7, m))
        points[1] = points[0]
        points[2, 0] = points[3, 0]
        found = _volume(jnp.asarray(points, jnp.float32), 0.8)
        np.testing.assert_allclose(found, _union(points, np.full(m, 0.8)), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("m", [2, *slow(3, 4)])
def test_moocore_agrees(m: int) -> None:
    moocore = pytest.importorskip("moocore")
    generator = np.random.default_rng(m)
    points = np.abs(generator.normal(size=(60, m)))
    points /= np.linalg.norm(points, axis=1, keepdims=True)
    reference = np.full(m, 1.1)
    ours = hypervolume(jnp.asarray(points, jnp.float32), reference, samples=40_000)
    np.testing.assert_allclose(ours, moocore.hypervolume(points, ref=reference), rtol=2e-2 if m > 3 else 1e-5)
    mask = nondominated(jnp.asarray(points, jnp.float32))
    np.testing.assert_array_equal(mask, moocore.is_nondominated(points, keep_weakly=True))
    front = points[:20]
    ours = igd_plus(jnp.asarray(points[20:], jnp.float32), jnp.asarray(front, jnp.float32))
    np.testing.assert_allclose(ours, moocore.igd_plus(points[20:], ref=front), rtol=1e-4)


@pytest.mark.parametrize("m", [2, 3])
@pytest.mark.usefixtures("x64")
def test_the_gradient_of_the_hypervolume_is_its_finite_difference(m: int) -> None:
    points = jr.uniform(jr.key(m), (6, m))
    gradient = jax.jit(jax.grad(hypervolume))(points, 0.9)
    for index in np.ndindex(6, m):
        shift = jnp.zeros_like(points).at[index].set(1e-6)
        difference = (_volume(points + shift, 0.9) - _volume(points - shift, 0.9)) / 2e-6
        np.testing.assert_allclose(gradient[index], difference, rtol=1e-5, atol=1e-8)


def test_points_beyond_the_reference_point_count_nothing() -> None:
    points = jnp.asarray([[0.5, 2.0], [jnp.nan, 0.1], [jnp.inf, 0.2], [-jnp.inf, 0.5]])
    assert float(hypervolume(points, 1.0)) == 0.0
    assert float(hypervolume(jnp.concatenate([points, jnp.asarray([[0.5, 0.5]])]), 1.0)) == 0.25


def test_dominated_points_are_left_out() -> None:
    points = jnp.asarray([[0.0, 1.0], [1.0, 0.0], [1.0, 1.0], [0.0, 1.0], [0.5, jnp.nan]])
    np.testing.assert_array_equal(nondominated(points), [True, True, False, True, False])
    feasible = jnp.asarray([False, False, True, False, True])
    np.testing.assert_array_equal(nondominated(points, feasible), [False, False, True, False, False])


def test_distances_of_known_fronts() -> None:
    line = jnp.stack([jnp.linspace(0, 1, 5), 1 - jnp.linspace(0, 1, 5)], 1)
    assert float(spread(line)) == pytest.approx(0, abs=1e-6)
    assert float(spread(line.at[1].add(jnp.asarray([0.1, -0.1])))) > 0.1
    assert float(igd_plus(line, line)) == 0
    assert float(igd_plus(line + 0.3, line)) == pytest.approx(0.3 * 2**0.5, rel=1e-5)
    np.testing.assert_allclose(crowding(line), [jnp.inf, 1, 1, 1, jnp.inf], rtol=1e-6)
    clustered = line.at[1:4].set(line[2])
    assert float(riesz_energy(line)) < float(riesz_energy(clustered.at[1].add(0.05)))
    assert bool(jnp.all(jnp.isfinite(jax.grad(riesz_energy)(clustered))))


def test_preferences_cover_the_simplex() -> None:
    even = das_dennis(3, 12)
    assert even.shape == (91, 3)
    np.testing.assert_allclose(even.sum(1), 1, rtol=1e-6)
    assert len({tuple(np.round(12 * row).astype(int)) for row in np.asarray(even)}) == 91
    np.testing.assert_allclose(preferences(2, 5), np.stack([np.arange(5) / 4, 1 - np.arange(5) / 4], 1), atol=1e-6)
    mixed = np.asarray(preferences(3, 93, key=jr.key(1)))
    np.testing.assert_allclose(mixed[:91], even)
    np.testing.assert_allclose(mixed.sum(1), 1, rtol=1e-5)
    assert preferences(4, 2).shape == (2, 4)


@pytest.mark.parametrize(
    ("points", "reference", "text"),
    [
        (jnp.ones((3, 1)), 1.0, "at least two objectives, but 1"),
        (jnp.ones((3, 2)), (1.0, 2.0, 3.0), r"have 2 entries, .* shape \(3,\)"),
    ],
)
def test_shapes_that_do_not_fit_are_refused(points: Any, reference: Any, text: str) -> None:
    with pytest.raises(ValueError, match=text):
        hypervolume(points, reference)
    with pytest.raises(ValueError, match="at least two points"):
        spread(points[:1])
    with pytest.raises(ValueError, match="`divisions` must be at least 1"):
        das_dennis(2, 0)
