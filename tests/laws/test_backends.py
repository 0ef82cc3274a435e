"""All backends compute what the definition of a kernel says, under every transformation."""

from collections.abc import Callable
from typing import Any

import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import jax.random as jr
import jax.tree_util as jtu
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from jax.sharding import AxisType, PartitionSpec
from jaxtyping import Array

from metaopt.backend import XLA, AbstractBackend, Network, Tensor, Updated
from metaopt_backends.pallas import Pallas
from tests.backend.rule import CONTEXT, POINTWISE, assert_matches, make, network

from .trees import seeds


BACKENDS: dict[str, AbstractBackend | None] = {
    "dense": XLA(block=10**9),
    "tiled": XLA(block=256, unroll=0),
    "unrolled": XLA(block=256, unroll=10**6),
    "native": None,  # a fixture, which knows whether it can be used here
    "triton": Pallas(smallest=2, interpret="triton"),
    "mosaic": Pallas(smallest=2, interpret="mosaic"),
}
# Of the largest number, in the result: features are divided by their root mean squares, and steps are exponentials.
TOLERANCE = {"float32": 2e-4, "float64": 1e-10}

shapes = st.lists(st.sampled_from([1, 2, 3, 5, 8, 17]), min_size=1, max_size=4).map(tuple)
wide = st.lists(st.integers(1, 40), min_size=1, max_size=4).map(tuple)
once = settings(max_examples=1, suppress_health_check=[HealthCheck.function_scoped_fixture])
many = settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.fixture(params=BACKENDS)
def backend(request: pytest.FixtureRequest) -> AbstractBackend:
    return BACKENDS[request.param] or request.getfixturevalue("native")


@pytest.fixture(params=TOLERANCE)
def dtype(request: pytest.FixtureRequest, backend: AbstractBackend) -> Any:
    if request.param == "float64" and isinstance(backend, Pallas):
        pytest.skip("these kernels are for single precision")
    with jax.enable_x64(request.param == "float64"):
        yield request.param


Arrays = tuple[Any, Any, Any]


def _draw(shape: tuple[int, ...], seed: int, dtype: str) -> tuple[Network, Array, Arrays]:
    keys = jr.split(jr.key(seed), 3)
    return network(keys[0]), jr.normal(keys[1], (CONTEXT,)), make(shape, keys[2], dtype)[:3]


def _kernel(backend: AbstractBackend, axes: tuple[str, ...] = ()) -> Callable[[Network, Array, Arrays], Updated]:
    def kernel(net: Network, context: Array, arrays: Arrays) -> Updated:
        return backend.network_update(POINTWISE, net, context, [Tensor(*arrays, axes=axes)])[0]

    return kernel


def _is_defined(found: Updated, net: Network, context: Array, arrays: Arrays, dtype: str, factor: float = 1) -> None:
    assert_matches(found, net, context, Tensor(*arrays), factor * TOLERANCE[dtype])


def _same(found: Any, wanted: Any, dtype: str) -> None:
    for ours, theirs in zip(jtu.tree_leaves(found), jtu.tree_leaves(wanted), strict=True):
        tolerance = TOLERANCE[dtype] * (1 + float(np.max(np.abs(theirs), initial=0)))
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=tolerance)


@once
@given(shape=shapes, seed=seeds)
def test_jit(backend: AbstractBackend, dtype: str, shape: tuple[int, ...], seed: int) -> None:
    drawn = _draw(shape, seed, dtype)
    _is_defined(jax.jit(_kernel(backend))(*drawn), *drawn, dtype)


@pytest.mark.slow
@many
@given(shape=wide, seed=seeds)
def test_jit_of_many_shapes(backend: AbstractBackend, dtype: str, shape: tuple[int, ...], seed: int) -> None:
    drawn = _draw(shape, seed, dtype)
    _is_defined(jax.jit(_kernel(backend))(*drawn), *drawn, dtype)


@once
@given(shape=shapes, seed=seeds)
def test_vmap_is_a_loop(backend: AbstractBackend, shape: tuple[int, ...], seed: int) -> None:
    members = [_draw(shape, seed + member, "float32") for member in range(2)]
    batch = jtu.tree_map(lambda *x: jnp.stack(x), *members)
    found = jax.jit(jax.vmap(_kernel(backend)))(*batch)
    for index, member in enumerate(members):
        _is_defined(jtu.tree_map(lambda x, i=index: x[i], found), *member, "float32")


@once
@given(shape=shapes, seed=seeds)
def test_scan_is_a_loop(backend: AbstractBackend, shape: tuple[int, ...], seed: int) -> None:
    net, context, (param, memory, operands) = _draw(shape, seed, "float32")
    kernel = _kernel(backend)

    @jax.jit
    def scanned(param: Array, memory: Array) -> Any:
        def body(carry: tuple[Array, Array], _: None) -> tuple[tuple[Array, Array], Updated]:
            new = kernel(net, context, (*carry, operands))
            return (new.param, new.state), new

        return jax.lax.scan(body, (param, memory), length=2)[1]

    steps = scanned(param, memory)
    for index in range(2):
        found = jtu.tree_map(lambda x, i=index: x[i], steps)
        _is_defined(found, net, context, (param, memory, operands), "float32")
        param, memory = found.param, found.state


def _specs(arrays: Arrays, ndim: int) -> Any:
    """The first axis of the tensor over the mesh, in every leaf that has it."""

    def spec(x: Array) -> PartitionSpec:
        free = x.ndim - ndim
        spread = x.ndim and x.shape[free] > 1
        return PartitionSpec(*[None] * free, "d") if spread else PartitionSpec()

    return jtu.tree_map(spec, arrays)


@once
@given(rest=st.lists(st.sampled_from([1, 2, 5, 17]), max_size=3).map(tuple), seed=seeds)
def test_spread_is_whole(backend: AbstractBackend, rest: tuple[int, ...], seed: int) -> None:
    assert len(jax.devices()) == 8
    net, context, arrays = _draw((8, *rest), seed, "float32")
    mesh = jax.make_mesh((4,), ("d",), axis_types=(AxisType.Auto,), devices=jax.devices()[:4])
    specs = _specs(arrays, 1 + len(rest))
    kernel = jax.shard_map(
        _kernel(backend, ("d",)),
        mesh=mesh,
        in_specs=(PartitionSpec(), PartitionSpec(), specs),
        out_specs=Updated(specs[1], specs[0]),
        # Interpreted kernels do not say what varies; others do.
        check_vma=not isinstance(backend, Pallas),
    )
    found = jax.jit(kernel)(net, context, arrays)
    assert len(found.param.sharding.device_set) == 4
    _is_defined(found, net, context, arrays, "float32")


@once
@given(shape=shapes, seed=seeds)
def test_derivatives_are_those_of_the_reference(backend: AbstractBackend, shape: tuple[int, ...], seed: int) -> None:
    drawn = _draw(shape, seed, "float32")
    tangents = jtu.tree_map(lambda x: jnp.cos(x), drawn)

    def derivatives(backend: AbstractBackend) -> Any:
        def loss(*arguments: Any) -> Array:
            return sum((jnp.sum(jnp.sin(x)) for x in _kernel(backend)(*arguments)), start=jnp.zeros(()))

        def both(*arguments: Any) -> Any:
            return jax.grad(loss, argnums=(0, 1, 2))(*arguments), jax.jvp(loss, arguments, tangents)

        return jax.jit(both)(*drawn)

    _same(derivatives(backend), derivatives(XLA()), "float32")
