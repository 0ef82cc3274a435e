"""What backends with a kernel of their own for `network_update` share."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.tree_util as jtu
from jaxtyping import Array, Float

from metaopt.backend import AbstractBackend, Network, Pointwise, Tensor, Updated


class Results(NamedTuple):
    """What an update of one tensor makes: arrays like its state and parameters, written where these were.

    `aliases` says which operand, counted as `jax.tree_util` does, each of `shapes` overwrites.
    """

    structure: Any
    shapes: list[jax.ShapeDtypeStruct]
    aliases: dict[int, int]

    def updated(self, arrays: list[Array]) -> Updated:
        *state, param = arrays
        return Updated(jtu.tree_unflatten(self.structure, state), param)


def results_of(tensor: tuple[Any, Any, Any]) -> Results:
    """The results for the parameters, state and operands of a tensor."""
    param, state, _ = tensor
    leaves, structure = jtu.tree_flatten(state)
    shapes = [jax.ShapeDtypeStruct(x.shape, x.dtype) for x in (*leaves, param)]
    return Results(structure, shapes, {0: len(leaves), **{1 + index: index for index in range(len(leaves))}})


def everywhere(means: Float[Array, " k"], axes: tuple[str, ...]) -> Float[Array, " k"]:
    """Means over a tensor that is spread over mesh axes, of those over the part of this device."""
    return jax.lax.pmean(means, axes) if axes else means


def by_reference(
    reference: AbstractBackend, pointwise: Pointwise, axes: tuple[str, ...] = ()
) -> Callable[[Network, Array, tuple[Any, Any, Any]], Updated]:
    """The update of one tensor by another backend: what runs where there is no kernel, and what is differentiated."""

    def update(network: Network, context: Array, tensor: tuple[Any, Any, Any]) -> Updated:
        return reference.network_update(pointwise, network, context, [Tensor(*tensor, axes=axes)])[0]

    return update
