"""Kernels for GPUs and TPUs: right where they are interpreted, lowered on any host, left out where they cannot run."""

import contextlib
import re
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
from jax.sharding import AxisType, PartitionSpec
from jaxtyping import Array

from metaopt.backend import XLA, Tensor
from metaopt_backends.pallas import Pallas, _pallas
from tests._cases import fast
from tests.backend.rule import CONTEXT, POINTWISE, apply, assert_matches, make, network


# Small networks are written out, large ones are products of matrices.
HIDDEN = {"4x4": (4, 4), "32x32": (32, 32)}
SHAPES = [(300,), (9, 260), (3, 5, 40)]


@pytest.mark.parametrize("hidden", fast(HIDDEN, "4x4"))
@pytest.mark.parametrize("device", ["triton", pytest.param("mosaic", marks=pytest.mark.slow)])
def test_it_is_what_its_definition_says(device: Any, hidden: tuple[int, ...], getkey: Callable[[], Array]) -> None:
    net, context = network(getkey(), *hidden), jr.normal(getkey(), (CONTEXT,))
    tensors = [make(shape, getkey()) for shape in SHAPES]
    before = jax.tree_util.tree_map(np.array, tensors)
    for tensor, updated in zip(
        tensors, apply(Pallas(smallest=2, interpret=device), net, context, tensors), strict=True
    ):
        assert_matches(updated, net, context, tensor, 1e-4)
    jax.tree_util.tree_map(np.testing.assert_array_equal, tensors, before)


# From jax 0.12 on, lowering for a GPU that is not there asks which one is meant.
ASKED = jax.__version_info__ >= (0, 12)


def absent_gpus(*sizes: int) -> Any:
    sharding: Any = jax.sharding
    device = sharding.AbstractDevice("NVIDIA H100 80GB HBM3", None, "gpu")
    return sharding.AbstractMesh(sizes, ("d",)[: len(sizes)], (AxisType.Auto,) * len(sizes), abstract_device=device)


CALLS = {"cuda": "__gpu$xla.gpu.triton", "tpu": "tpu_custom_call"}


@pytest.mark.parametrize("hidden", HIDDEN.values(), ids=HIDDEN.keys())
@pytest.mark.parametrize("platform", CALLS)
def test_it_lowers_without_a_device(platform: str, hidden: tuple[int, ...], getkey: Callable[[], Array]) -> None:
    arguments = network(getkey(), *hidden), jr.normal(getkey(), (CONTEXT,)), make((70, 200), getkey())[:3]

    @jax.jit
    def kernel(net: Any, context: Array, tensor: tuple[Any, ...]) -> Any:
        return Pallas().network_update(POINTWISE, net, context, [Tensor(*tensor)])

    with jax.sharding.use_abstract_mesh(absent_gpus()) if ASKED else contextlib.nullcontext():
        text = kernel.trace(*arguments).lower(lowering_platforms=(platform,)).as_text()
    # On GPUs there are two kernels, the first of which sums squares.
    assert text.count(CALLS[platform]) == {"cuda": 2, "tpu": 1}[platform]
    assert not any(call in kernel.lower(*arguments).as_text() for call in CALLS.values())


@pytest.mark.parametrize("platform", [*CALLS, "cpu"])
def test_it_lowers_with_a_tensor_on_many_devices(platform: str, getkey: Callable[[], Array]) -> None:
    if platform == "cuda" and ASKED:
        mesh = absent_gpus(4)
    else:
        mesh = jax.make_mesh((4,), ("d",), axis_types=(AxisType.Auto,), devices=jax.devices()[:4])
    net, context, param = network(getkey()), jr.normal(getkey(), (CONTEXT,)), make((4000,), getkey())

    @jax.jit
    def kernel(tensor: tuple[Any, ...]) -> Array:
        def part(tensor: tuple[Any, ...]) -> Array:
            return Pallas(smallest=2).network_update(POINTWISE, net, context, [Tensor(*tensor, axes=("d",))])[0].param

        own, rest = PartitionSpec("d"), PartitionSpec()
        specs = (own, PartitionSpec(None, "d"), type(param.operands)(own, own, own, rest, rest))
        return jax.shard_map(part, mesh=mesh, in_specs=(specs,), out_specs=own)(tensor)

    text = kernel.trace(param[:3]).lower(lowering_platforms=(platform,)).as_text()
    assert platform == "cpu" or CALLS[platform] in text


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"block": 100}, "`block` must be a power of two of at least 16, but 100 was given."),
        ({"block": 8}, "`block` must be a power of two of at least 16, but 8 was given."),
    ],
)
def test_wrong_options(options: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=re.escape(words)):
        Pallas(**options)


def test_what_it_is_not_for_goes_to_the_reference(
    x64: None, getkey: Callable[[], Array], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_pallas, "_update", lambda *_: pytest.fail("a kernel was made"))
    net, context = network(getkey()), jr.normal(getkey(), (CONTEXT,))
    tensors = [make((100, 100), getkey(), jnp.float64), make((90, 90), getkey(), jnp.float32), make((), getkey())]
    found, wanted = (apply(backend, net, context, tensors) for backend in (Pallas(interpret="triton"), XLA()))
    jax.tree_util.tree_map(np.testing.assert_array_equal, found, wanted)


def test_the_reference_runs_where_there_is_no_such_device(getkey: Callable[[], Array]) -> None:
    net, context, tensor = network(getkey()), jr.normal(getkey(), (CONTEXT,)), make((100, 100), getkey())
    (found,), (wanted,) = (apply(backend, net, context, [tensor]) for backend in (Pallas(), XLA()))
    jax.tree_util.tree_map(np.testing.assert_array_equal, found, wanted)
    assert Pallas.unusable() == "it is for GPUs and TPUs, and jax runs on cpu here"


def test_a_rule_that_is_not_elementwise(getkey: Callable[[], Array], caplog: pytest.LogCaptureFixture) -> None:
    _pallas._warn.cache_clear()
    rule = POINTWISE._replace(features=lambda seen: POINTWISE.features(seen._replace(param=jnp.sort(seen.param))))
    net, context, tensor = network(getkey()), jr.normal(getkey(), (CONTEXT,)), make((5000,), getkey())
    backend = Pallas(smallest=2, interpret="mosaic")
    for _ in range(2):
        (found,), (wanted,) = (apply(each, net, context, [tensor], rule) for each in (backend, XLA()))
        np.testing.assert_array_equal(found.param, wanted.param)
    (line,) = [record.getMessage() for record in caplog.records]
    assert line.startswith("metaopt: no Pallas kernel") and "`sort` is not an elementwise operation" in line
