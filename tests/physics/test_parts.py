"""Domains, samplers, jets and networks."""

import sys

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

from metaopt import physics
from metaopt.tasks import DenseNetwork
from tests._cases import fast


SPACE = {
    "interval": physics.interval,
    "box": lambda: physics.Box((0.0, -1.0, 2.0), (1.0, 1.0, 2.5)),
    "disk": lambda: physics.Disk((0.5, 0.0), 0.7),
    "ball": lambda: physics.Disk((0.0, 0.0, 1.0), 2.0),
    "triangle": lambda: physics.Polygon(((0.0, 0.0), (0.5, 1.0), (1.0, 0.0))),
    "l_shape": physics.l_shape,
    "union": lambda: physics.Union(physics.rectangle(), physics.Disk((1.0, 0.5), 0.4)),
    "difference": lambda: physics.Difference(physics.rectangle(), physics.Disk((0.5, 0.5), 0.3)),
    "space_time": lambda: physics.SpaceTime(physics.Disk(), 1.0, 2.0),
}
AREAS = {"disk": np.pi * 0.49, "triangle": 0.5, "l_shape": 3.0, "difference": 1 - np.pi * 0.09}


@pytest.mark.parametrize("name", fast(list(SPACE), "box", "disk", "l_shape", "difference", "space_time"))
def test_points_lie_where_they_should(name: str) -> None:
    domain = SPACE[name]()
    inside, edge = jax.jit(
        lambda key: (
            domain.sample(64, key=key, sampler=physics.Uniform()),
            domain.boundary(64, key=key, sampler=physics.Uniform()),
        )
    )(jr.key(0))
    assert inside.shape == (64, domain.dimension) and np.all(domain.contains(inside))
    assert np.unique(np.asarray(inside), axis=0).shape[0] == 64
    assert edge.normals is not None
    assert np.allclose(np.linalg.norm(edge.normals, axis=1), 1, atol=1e-5)
    if domain.transient:
        assert np.all(np.asarray(edge.normals)[:, -1] == 0)
        return
    assert np.abs(domain.level(edge.x)).max() < 1e-5
    # Normals point outwards.
    assert np.all(np.asarray(domain.level(edge.x + 1e-3 * edge.normals)) > 0)
    assert np.all(np.asarray(domain.level(edge.x - 1e-3 * edge.normals)) < 0)


@pytest.mark.parametrize("name", AREAS)
def test_points_are_uniform(name: str) -> None:
    domain = SPACE[name]()
    lower, upper = domain.bounds()
    pool = lower[None] + jr.uniform(jr.key(1), (20_000, 2)) * (upper - lower)[None]
    share = float(jnp.mean(domain.contains(pool)) * jnp.prod(upper - lower))
    assert share == pytest.approx(AREAS[name], rel=0.03)


def test_faces_have_their_share() -> None:
    edge = physics.rectangle((0.0, 0.0), (3.0, 1.0)).boundary(400, key=jr.key(0), sampler=physics.Uniform())
    across = np.abs(np.asarray(edge.normals)[:, 1]) == 1
    assert abs(across.mean() - 0.75) < 0.02


@pytest.mark.parametrize("sampler", [physics.Uniform(), physics.Halton(), physics.LatinHypercube()])
def test_samplers_fill_the_cube(sampler: physics.AbstractSampler) -> None:
    unit = np.asarray(sampler.unit(200, 2, key=jr.key(0)))
    assert unit.shape == (200, 2) and unit.min() >= 0 and unit.max() <= 1
    assert np.abs(unit.mean(axis=0) - 0.5).max() < 0.1
    assert not np.allclose(unit, sampler.unit(200, 2, key=jr.key(1)))
    if isinstance(sampler, physics.LatinHypercube):
        assert np.all(np.sort((unit * 200).astype(int), axis=0) == np.arange(200)[:, None])


ROWS = (physics.laplacian((0, 1)), ((0, 1),), ((0, 0),))


FIELDS = {
    "tanh": lambda: physics.Perceptron((2, 5, 4, 3)),
    "sin": lambda: physics.Perceptron((2, 5, 2), "sin"),
    "gelu": lambda: physics.Perceptron((2, 5, 2), "gelu"),
    "rescaled": lambda: physics.Rescaled(physics.Perceptron((2, 4, 1)), (0.0, 1.0), (2.0, 5.0), 3.0),
    "fourier": lambda: physics.fourier_features(2, (4,), frequencies=3, key=jr.key(5)),
    "periodic": lambda: physics.Periodic(physics.Perceptron((5, 4, 1)), (1.0, 0.0), 2),
    "hard": lambda: physics.HardBoundary(
        physics.Perceptron((2, 4, 2)), lambda x: x[:, 0] * (1 - x[:, 1] ** 2), lambda x: jnp.sin(x)
    ),
    "jvp": lambda: physics.Differentiated(DenseNetwork((2, 4, 2), "tanh"), (2, 2)),
    "taylor": lambda: physics.Differentiated(DenseNetwork((2, 4, 2), "tanh"), (2, 2), "taylor"),
    "folx": lambda: physics.Differentiated(DenseNetwork((2, 4, 2), "tanh"), (2, 2), "folx"),
    # Seconds come in, and mixed ones alone are asked for.
    "folx inside": lambda: physics.Periodic(
        physics.Differentiated(DenseNetwork((5, 4, 2), "tanh"), (5, 2), "folx"), (1.0, 0.0), 2
    ),
}


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize(
    "name", fast(list(FIELDS), "tanh", "rescaled", "fourier", "hard", "jvp", "taylor", "folx inside")
)
def test_derivatives_are_those_of_automatic_differentiation(name: str) -> None:
    if name.startswith("folx"):
        pytest.importorskip("folx")
    field = FIELDS[name]()
    params = field.init(key=jr.key(0))
    x = jr.normal(jr.key(1), (4, 2))

    @jax.jit
    def both(params: object) -> tuple[jax.Array, jax.Array]:
        return field.push(params, physics.Jet.seed(x, ROWS)).stack, jnp.asarray(_by_hand(field, params, x))

    stack, wanted = both(params)
    assert np.allclose(stack, wanted, atol=1e-11)


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "folx", None)
    with pytest.raises(ImportError, match=r"metaopt\[physics\]"):
        FIELDS["folx"]()


def _by_hand(field: physics.AbstractField, params: object, x: jax.Array) -> jax.Array:
    def at(x: jax.Array) -> jax.Array:
        return field.apply(params, x[None])[0]

    first = jax.vmap(jax.jacfwd(at))(x)
    second = jax.vmap(jax.jacfwd(jax.jacfwd(at)))(x)
    lap = second[..., 0, 0] + second[..., 1, 1]
    return jnp.stack([jax.vmap(at)(x), first[..., 0], first[..., 1], lap, second[..., 0, 1], second[..., 0, 0]])


def test_boundary_values_and_periods_by_construction() -> None:
    hard, periodic = FIELDS["hard"](), FIELDS["periodic"]()
    x = jr.uniform(jr.key(0), (10, 2))
    left = x.at[:, 0].set(0.0)
    assert np.allclose(hard.apply(hard.init(key=jr.key(1)), left), jnp.sin(left))
    params = periodic.init(key=jr.key(1))
    assert np.allclose(periodic.apply(params, x), periodic.apply(params, x.at[:, 0].add(1.0)), atol=1e-5)
