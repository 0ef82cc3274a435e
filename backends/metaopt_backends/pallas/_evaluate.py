"""Programs of single numbers, computed with arrays inside of kernels."""

import functools as ft
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array

from .._elements import Node, Rule


_BITWISE = {"and": "bitwise_and", "or": "bitwise_or", "not": "bitwise_not"}


def evaluate(rule: Rule, nodes: Sequence[int], load: Callable[[int, int], Array], known: dict[int, Array]) -> None:
    """Compute numbers of a rule for many elements at once.

    **Arguments:**

    - `rule`: what is computed.
    - `nodes`: which numbers.
    - `load`: reads an operand, by its position and the index among its free axes; arrays of broadcastable shapes.
    - `known`: numbers that are known already; those computed are added.
    """
    for n in rule.needed(nodes):
        if n not in known:
            node = rule.program.nodes[n]
            known[n] = _compute(node, load, [known[a] for a in node.arguments])


def varying(results: Sequence[tuple[tuple[int, ...], Any]], arrays: Sequence[Array]) -> list[jax.ShapeDtypeStruct]:
    """Results of some shapes and types which, inside of `jax.shard_map`, vary over all mesh axes that operands do."""

    def depend(*arrays: Array) -> list[Array]:
        any_of_them = ft.reduce(jnp.add, [jnp.sum(x).astype(jnp.float32) for x in arrays])
        return [jnp.broadcast_to(any_of_them.astype(dtype), shape) for shape, dtype in results]

    return jax.eval_shape(depend, *arrays)


def _compute(node: Node, load: Callable[[int, int], Array], arguments: list[Array]) -> Array:
    options = node.options
    if node.operation == "operand":
        return load(options["leaf"], options["index"])
    if node.operation == "constant":
        return jnp.asarray(options["value"], node.dtype)
    shape = jnp.broadcast_shapes(*[a.shape for a in arguments])
    arguments = [jnp.broadcast_to(a, shape) for a in arguments]
    if node.operation == "convert_element_type":
        return jax.lax.convert_element_type(arguments[0], jnp.dtype(options["new_dtype"]))
    if node.operation == "integer_pow":
        return jax.lax.integer_pow(arguments[0], options["y"])
    return getattr(jax.lax, _BITWISE.get(node.operation, node.operation))(*arguments)
