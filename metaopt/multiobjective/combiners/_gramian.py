"""How combiners read gradients that are stacked on a leading axis."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.tree_util as jtu
from jaxtyping import Array, Float, PyTree

from ..._core.arrays._trees import Matched, add_up, compute_dtype, match, rounded


class Gradients(eqx.Module):
    """The signal of a combiner: the gradients of all objectives, and, for those that read them, values and preference.

    **Arguments:**

    - `gradients`: as the parameters, with a leading axis over objectives; `None` where a leaf has no gradient.
    - `values`: the objectives at the parameters. Of a population, a column for each member.
    - `preference`: a weight for each objective, nonnegative, of the problem at hand. Of a population, a row for each
        member.
    """

    gradients: PyTree
    values: Float[Array, "m *n"] | None = None
    preference: Float[Array, "*n m"] | None = None


def unpack(signal: PyTree) -> Gradients:
    """A signal with or without values, as one with a place for them."""
    return signal if isinstance(signal, Gradients) else Gradients(signal)


def match_stacked(params: PyTree, stacked: PyTree) -> tuple[Matched, list[Array]]:
    """Match stacked gradients to parameters.

    **Returns:**

    What `match` says of the gradients of the first objective, and the stacked gradients of the matched leaves.

    **Raises:**

    - `ValueError`: if there are fewer than two objectives, or a leaf has another number of them than the others.
    """
    leaves = [x for x in jtu.tree_leaves(stacked) if eqx.is_array(x)]
    counts = {x.shape[0] if x.ndim else 0 for x in leaves}
    if len(counts) > 1:
        raise ValueError(
            f"The leading axis of every gradient counts the objectives, but leaves with {sorted(counts)} were given. "
            "Stack the gradients of all objectives, or make them with `jax.jacrev` of the vector of objectives."
        )
    if counts and min(counts) < 2:
        raise ValueError(
            f"A combiner needs the gradients of at least two objectives on a leading axis, but {min(counts)} was "
            "given. With one objective, use the inner algorithm itself."
        )
    matched = match(params, jtu.tree_map(lambda g: g[0] if eqx.is_array(g) else g, stacked))
    return matched, [jnp.asarray(g) for g in matched.pick(stacked)]


def gramian(stacked: list[Array]) -> Float[Array, "m m"]:
    r"""The inner products $G_{ij} = g_i^\top g_j$ of whole gradients, in at least 32 bits."""

    def one(g: Array) -> Array:
        g = g.astype(compute_dtype(g.dtype))
        axes = tuple(range(1, g.ndim))
        product = jax.lax.dot_general(jnp.conj(g), g, ((axes, axes), ((), ())), precision=jax.lax.Precision.HIGHEST)
        return jnp.real(product)

    return add_up([one(g) for g in stacked])


def combine(weights: Float[Array, " m"], stacked: list[Array]) -> list[Array]:
    """The weighted sums of gradients, in the dtypes of the gradients. What is finite stays so: sums beyond the largest
    number of a half-precision dtype end there."""

    def one(g: Array) -> Array:
        wide = g.astype(compute_dtype(g.dtype))
        return rounded(jnp.tensordot(weights.astype(wide.dtype), wide, 1), g.dtype)

    return [one(g) for g in stacked]


def refuse_complex(matched: Matched) -> None:
    """**Raises:**

    - `TypeError`: if a parameter is complex.
    """
    for leaf in matched.leaves:
        if jnp.iscomplexobj(leaf.param):
            raise TypeError(
                f"`{leaf.path}` is complex ({leaf.param.dtype}), but this learned rule updates real parameters. "
                "Optimize real and imaginary part as two arrays."
            )


def silent(network: eqx.nn.MLP) -> eqx.nn.MLP:
    """The same network with zero output."""
    return eqx.tree_at(lambda n: n.layers[-1], network, replace_fn=lambda x: jtu.tree_map(_zeros, x))


def _zeros(x: Any) -> Any:
    return jnp.zeros_like(x) if eqx.is_inexact_array(x) else x


def put_nothing_else(params: PyTree, matched: Matched, combined: list[Array]) -> PyTree:
    """One gradient in the structure of the parameters, with `None` where there is none."""
    return matched.put(jtu.tree_map(lambda _: None, params), combined)


def normalized(matrix: Float[Array, "m m"]) -> tuple[Float[Array, "m m"], Float[Array, ""]]:
    """A Gramian divided by its trace, and the trace; of zero gradients both are zero."""
    trace = jnp.trace(matrix)
    return matrix / jnp.where(trace > 0, trace, 1), trace


def uniform(matrix: Float[Array, "m m"], weights: Float[Array, " k"] | None, name: str) -> Float[Array, " m"]:
    """Weights as they were given, or equal ones that sum to one.

    **Raises:**

    - `ValueError`: if there is another number of them than of objectives.
    """
    m = matrix.shape[0]
    return jnp.full(m, 1 / m, matrix.dtype) if weights is None else fitting(matrix, weights, name)


def fitting(matrix: Float[Array, "m m"], weights: Float[Array, " k"], name: str) -> Float[Array, " m"]:
    """Numbers in the dtype that is computed in, one for each objective.

    **Raises:**

    - `ValueError`: if there is another number of them than of objectives.
    """
    if weights.shape != matrix.shape[:1]:
        raise ValueError(
            f"`{name}` has {weights.shape[0]} entries, but the gradients of {matrix.shape[0]} objectives were given."
        )
    return weights.astype(matrix.dtype)
