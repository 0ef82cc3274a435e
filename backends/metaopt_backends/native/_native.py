"""The backend of compiled C++ kernels."""

import functools as ft
import os
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import equinox as eqx
import jax
import jax.tree_util as jtu
from jaxtyping import Array, Float

from metaopt.backend import XLA, AbstractBackend, AbstractPartialBackend, Network, Pointwise, Tensor, Updated

from .._elements import Unsupported, trace
from .._layout import Layout, lay_out
from .._shared import by_reference, everywhere, results_of
from ._compile import LOGGER, Built, CompileError, build, compiler, record, verdict
from ._self_test import is_timed, self_test
from ._source import write


T = TypeVar("T")


class Native(AbstractPartialBackend):
    """C++ kernels for CPUs, which read and write each number of a large tensor once or twice.

    The features and the step of a rule are translated to C++ together with its network, compiled for this processor
    on first use, tested against the reference in result and speed, and kept in the user's cache. Where there is no
    compiler, where a rule cannot be translated, and on other platforms, the reference runs; why is logged once.
    Derivatives are those of the reference.

    **Attributes:**

    - `smallest`: tensors of fewer elements go to the reference, which treats many of them together.
    - `reference`: what runs where this does not.
    """

    smallest: int = eqx.field(static=True, default=8193)
    reference: AbstractBackend = XLA()

    def network_update(
        self,
        pointwise: Pointwise,
        network: Network,
        context: Float[Array, " context"],
        tensors: Sequence[Tensor],
    ) -> list[Updated]:
        new: dict[int, Updated] = {}
        rest = []
        for index, tensor in enumerate(tensors):
            # For a single element there is nothing to vectorize, and no code is written.
            large = tensor.param.size >= max(self.smallest, 2)
            kernel = _kernel(pointwise, network, tensor) if large else None
            if kernel is None:
                rest.append(index)
            else:
                shared = jtu.tree_map(lambda x: x.astype(tensor.param.dtype), (network, context))
                new[index] = _update(self, pointwise, kernel, tensor.axes, *shared, tensor[:3])
        own = self.reference.network_update(pointwise, network, context, [tensors[i] for i in rest])
        new.update(zip(rest, own, strict=True))
        return [new[index] for index in range(len(tensors))]

    @staticmethod
    def unusable() -> str | None:
        if jax.default_backend() != "cpu":
            return f"it is for CPUs, and jax runs on {jax.default_backend()} here"
        if os.name != "posix":
            return "it is for Linux and macOS"
        return None if compiler() else "there is no C++ compiler (`c++`, `g++`, `clang++`, or the one that `CXX` names)"


class _Kernel(eqx.Module):
    """A compiled kernel and the layout of one shape of tensor. Static, and equal for equal sources."""

    key: str = eqx.field(static=True)
    layout: Layout = eqx.field(static=True)
    features: int = eqx.field(static=True)


_unusable: dict[str, str] = {}


def _kernel(pointwise: Pointwise, network: Network, tensor: Tensor) -> _Kernel | None:
    """The kernel for a tensor; nothing if there is none, which is logged once per reason."""
    try:
        if jax.default_backend() != "cpu":
            raise CompileError(f"jax runs on {jax.default_backend()}, and native kernels are for CPUs")
        return _make(pointwise, network, tensor)
    except (CompileError, Unsupported) as error:
        if str(error) not in _unusable:
            _unusable[str(error)] = ""
            LOGGER.warning("metaopt: no native kernel, the XLA path runs instead: %s.", error)
        return None


def _make(pointwise: Pointwise, network: Network, tensor: Tensor) -> _Kernel:
    rule = trace(pointwise, network, tensor)
    layout = lay_out(rule, tensor.shape)
    sizes = [network.layers[0].weight.shape[1], *[layer.weight.shape[0] for layer in network.layers]]
    built = _load(write(rule, layout.kinds, layout.leaf_kinds, sizes, tensor.param.dtype.name))
    if isinstance(built, str):
        raise CompileError(built)
    kernel = _Kernel(built.key, layout, len(rule.values))
    # What is said of small tensors, which are not timed, holds for no others.
    test = built.key if is_timed(tensor.shape) else f"{built.key}.small"
    said = verdict(built, test)
    if said is None:
        said = self_test(network, kernel.features, tensor, *_candidates(pointwise, kernel))
        record(built, test, said)
    if said != "ok":
        raise CompileError(said)
    return kernel


def _candidates(pointwise: Pointwise, kernel: _Kernel) -> tuple[Callable[..., Updated], Callable[..., Updated]]:
    """The kernel and the reference, as functions of weights, context and arrays of any size laid out like these."""
    backend = Native()

    def compiled(network: Network, context: Array, arrays: tuple[Any, Any, Any]) -> Updated:
        layout = lay_out(trace(pointwise, network, Tensor(*arrays)), arrays[0].shape)
        own = _Kernel(kernel.key, layout, kernel.features)
        return _update(backend, pointwise, own, (), network, context, arrays)

    return compiled, by_reference(backend.reference, pointwise)


@ft.cache
def _load(source: str) -> Built | str:
    """A compiled kernel, or why there is none if it failed: it is tried once."""
    names = ("mean_squares", "update")
    try:
        built = build(source, [f"metaopt_{name}" for name in names])
    except CompileError as error:
        return str(error)
    for name in names:
        handler = jax.ffi.pycapsule(getattr(built.library, f"metaopt_{name}"))
        jax.ffi.register_ffi_target(f"metaopt_{name}_{built.key}", handler, platform="cpu")
    return built


@ft.partial(jax.custom_jvp, nondiff_argnums=(0, 1, 2, 3))
def _update(
    backend: Native,
    pointwise: Pointwise,
    kernel: _Kernel,
    axes: tuple[str, ...],
    network: Network,
    context: Float[Array, " context"],
    tensor: tuple[Any, Any, Any],
) -> Updated:
    del backend, pointwise
    shape, dtype = tensor[0].shape, tensor[0].dtype
    arrays = kernel.layout.arrange(jtu.tree_leaves(tensor), shape)
    layout = kernel.layout.numbers()
    means = jax.ffi.ffi_call(
        f"metaopt_mean_squares_{kernel.key}",
        jax.ShapeDtypeStruct((kernel.features,), dtype),
        vmap_method="sequential",
    )(*arrays, layout=layout)
    weights = [x for layer in network.layers for x in (layer.weight, layer.bias)]
    results = results_of(tensor)
    new = jax.ffi.ffi_call(
        f"metaopt_update_{kernel.key}", results.shapes, vmap_method="sequential", input_output_aliases=results.aliases
    )(*arrays, everywhere(means, axes), context, *weights, layout=layout)
    return results.updated(list(new))


@_update.defjvp
def _update_jvp(
    backend: Native,
    pointwise: Pointwise,
    kernel: _Kernel,
    axes: tuple[str, ...],
    primals: tuple[Any, ...],
    tangents: tuple[Any, ...],
) -> tuple[Updated, Updated]:
    del kernel

    return jax.jvp(by_reference(backend.reference, pointwise, axes), primals, tangents)
