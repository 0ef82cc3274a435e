"""Which points are not dominated."""

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float


def dominance(points: Float[Array, "n m"]) -> Bool[Array, "n n"]:
    """Whether the point of the row dominates that of the column."""
    at_most = jnp.all(points[:, None] <= points[None], axis=-1)
    return at_most & ~at_most.T


def nondominated(points: Float[Array, "n m"], feasible: Bool[Array, " n"] | None = None) -> Bool[Array, " n"]:
    r"""Mark the points that no other point dominates: is at least as good in all objectives and better in one.

    Of equal points, all are marked. Compares all pairs: memory is $n^2 m$.

    **Arguments:**

    - `points`: one row per point, all objectives to be minimized.
    - `feasible`: points that may not be used; they neither dominate nor are marked.

    **Returns:**

    A mask. Points that are not finite are not marked.
    """
    usable = jnp.all(jnp.isfinite(points), axis=1)
    usable = usable if feasible is None else usable & feasible
    return usable & ~jnp.any(dominance(points) & usable[:, None], axis=0)
