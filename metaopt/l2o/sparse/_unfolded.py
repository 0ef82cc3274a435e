"""What the rules for sparse coding share: shrinkage, and layers that are taken one after the other."""

from typing import Any, NamedTuple, TypeVar

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.tree_util as jtu
import numpy as np
from jaxtyping import Array, Float, Int

from ..._core.arrays._trees import compute_dtype


T = TypeVar("T")
Matrix = Float[Array, "m n"] | Float[np.ndarray, "m n"]


class LayerState(NamedTuple):
    """The state of an unfolded algorithm: how many layers were taken."""

    count: Int[Array, ""]  # pyright: ignore[reportIncompatibleMethodOverride]


def check_dictionary(dictionary: Matrix) -> Float[np.ndarray, "m n"]:
    """A dictionary in double precision.

    **Raises:**

    - `ValueError`: if a column is zero or not finite.
    """
    matrix = np.asarray(dictionary, np.float64)
    norms = np.linalg.norm(matrix, axis=0)
    if not (np.all(np.isfinite(norms)) and np.all(norms > 0)):
        raise ValueError(
            "Each column of `dictionary` must be finite and not zero, but "
            f"{np.sum(~(np.isfinite(norms) & (norms > 0)))} of {norms.size} are not. Leave them out."
        )
    return matrix


def lipschitz(matrix: Float[np.ndarray, "m n"]) -> float:
    r"""The largest eigenvalue of $A^\top A$."""
    return float(np.linalg.norm(matrix, 2) ** 2)


def least_coherent(matrix: Float[np.ndarray, "m n"]) -> Float[np.ndarray, "m n"]:
    r"""The $W$ of least $\lVert W^\top A \rVert_F$ among those with $w_i^\top a_i = 1$."""
    # By the condition of the minimum, A A^T w is a multiple of a_i.
    directions = np.linalg.pinv(matrix @ matrix.T, hermitian=True) @ matrix
    return directions / np.sum(directions * matrix, axis=0)


def read(params: Any, residual: Any, shape: tuple[int, ...]) -> tuple[Float[Array, " n"], Float[Array, " m"]]:
    """A code and its residual, in the dtype that is computed in.

    **Raises:**

    - `ValueError`: if they do not fit a dictionary of this shape.
    """
    rows, columns = shape
    for name, given, size in (("params", params, columns), ("grads", residual, rows)):
        if not eqx.is_inexact_array(given) or given.shape != (size,):
            raise ValueError(
                f"This rule is for a dictionary of shape {shape}, so `{name}` must be a vector of {size} "
                f"floating-point numbers, but {eqx.tree_pformat(given, struct_as_array=True)} was given. Its signal is "
                'the residual, as of `SparseCoding(signal="residual")`.'
            )
    dtype = compute_dtype(params.dtype)
    return params.astype(dtype), residual.astype(dtype)


def shrink(x: Float[Array, " n"], threshold: Float[Array, ""]) -> Float[Array, " n"]:
    r"""Soft thresholding, $\mathrm{sign}(x) \max(|x| - \theta, 0)$."""
    return x - jnp.clip(x, -threshold, threshold)


def shrink_outside(
    x: Float[Array, " n"], threshold: Float[Array, ""], count: Int[Array, ""] | int, most: int
) -> Float[Array, " n"]:
    """Soft thresholding, except of the largest `count` entries (at most `most`) that are above the threshold."""
    if most == 0:
        return shrink(x, threshold)
    size = jax.lax.stop_gradient(jnp.abs(x))
    largest = jax.lax.top_k(size, most)[0]
    bound = jnp.where(count > 0, largest[jnp.maximum(count - 1, 0)], jnp.inf)
    return jnp.where((size >= bound) & (size > threshold), x, shrink(x, threshold))


def check_support(support: Any) -> tuple[float, float] | None:
    """Check the share of entries that is not shrunk, per layer and at most.

    **Raises:**

    - `ValueError`: if these are not two numbers between 0 and 1.
    """
    if support is None:
        return None
    fine = len(support) == 2 and all(0 < share <= 1 for share in support)
    if not fine:
        raise ValueError(
            "`support` must be two shares above 0 and at most 1, that of the first layer and the largest, but "
            f"{support!r} was given. Write `support=(0.012, 0.13)`, say, or `None` to shrink all entries."
        )
    return float(support[0]), float(support[1])


def selected(support: tuple[float, float] | None, step: Int[Array, ""], size: int) -> tuple[Int[Array, ""] | int, int]:
    """How many entries are not shrunk in this layer, and in any."""
    if support is None:
        return 0, 0
    share, limit = support
    most = min(round(limit * size), size)
    wanted = jnp.round(share * size * (step + 1).astype(jnp.float32)).astype(jnp.int32)
    return jnp.minimum(wanted, most), most


def repeated(tree: T, depth: int) -> T:
    """A copy of the numbers of one layer for each.

    **Raises:**

    - `ValueError`: if there are none.
    """
    if depth < 1:
        raise ValueError(f"`depth` must be at least 1, but {depth} was given.")
    return jtu.tree_map(lambda x: jnp.repeat(x[None], depth, axis=0), tree)


def layer(tree: T, step: Int[Array, ""]) -> T:
    """The numbers of one layer, of leaves with the layers first. After the last layer it is taken again."""

    def one(x: Array) -> Array:
        return jax.lax.dynamic_index_in_dim(x, jnp.minimum(step, x.shape[0] - 1), keepdims=False)

    return jtu.tree_map(one, tree)
