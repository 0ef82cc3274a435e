"""The volume that a front dominates."""

from typing import Any

import jax
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Bool, Float, PRNGKeyArray


def _stairs(
    x: Float[Array, " n"], y: Float[Array, " n"], inside: Bool[Array, "k n"]
) -> tuple[Float[Array, "k n"], Float[Array, "k n"]]:
    """For points in the order of their first coordinate: the height of each one's step in every subset, and its width.

    They are zero for points that others of the subset dominate.
    """
    edge = jnp.zeros((inside.shape[0], 1), y.dtype)
    lowest = jax.lax.cummin(jnp.where(inside, y[None], 0), axis=1)
    height = jnp.concatenate([edge, lowest[:, :-1]], axis=1) - lowest
    after = jax.lax.cummin(jnp.where(height > 0, x[None], 0), axis=1, reverse=True)
    width = jnp.concatenate([after[:, 1:], edge], axis=1) - x[None]
    return height, jnp.where(height > 0, width, 0)


def _in_the_plane(points: Float[Array, "n 2"]) -> tuple[Float[Array, ""], Float[Array, "n 2"]]:
    """The area between the origin and points with nonpositive coordinates, and its derivative."""
    (x, y), index = points.T, jnp.arange(points.shape[0])
    # Column j comes before row i; of equal ones, the first.
    before = (x[None] < x[:, None]) | ((x[None] == x[:, None]) & (index[None] < index[:, None]))
    height = jnp.maximum(jnp.min(jnp.where(before, y[None], 0), axis=1) - y, 0)
    after = jnp.min(jnp.where(before.T & (height > 0)[None], x[None], 0), axis=1)
    width = jnp.where(height > 0, after - x, 0)
    return -x @ height, -jnp.stack([height, width], axis=1)


def _in_space(points: Float[Array, "n 3"]) -> tuple[Float[Array, ""], Float[Array, "n 3"]]:
    """The same in three dimensions: slices between one point and the next along the last coordinate."""
    order = jnp.argsort(points[:, 2])
    points = points[order]
    n = points.shape[0]
    # All slices have their points in the same order, that of the first coordinate.
    across = jnp.argsort(points[:, 0])
    x, y = points[across, 0], points[across, 1]
    height, width = _stairs(x, y, across[None] <= jnp.arange(n)[:, None])
    areas = height @ -x
    depth = jnp.append(points[1:, 2], 0) - points[:, 2]
    sides = jnp.zeros((n, 2), points.dtype).at[across].set(jnp.stack([depth @ height, depth @ width], axis=1))
    added = areas - jnp.concatenate([jnp.zeros(1, areas.dtype), areas[:-1]])
    slope = -jnp.concatenate([sides, added[:, None]], axis=1)
    return areas @ depth, jnp.zeros_like(points).at[order].set(slope)


@jax.custom_jvp
def _exact(points: Float[Array, "n m"]) -> Float[Array, ""]:
    """The volume between the origin and two- or three-dimensional points with nonpositive coordinates."""
    return (_in_the_plane if points.shape[1] == 2 else _in_space)(points)[0]


@_exact.defjvp
def _exact_jvp(primals: tuple[Array], tangents: tuple[Array]) -> tuple[Array, Array]:
    (points,), (tangent,) = primals, tangents
    volume, slope = (_in_the_plane if points.shape[1] == 2 else _in_space)(points)
    return volume, jnp.sum(slope * tangent)


def hypervolume(
    points: Float[Array, "n m"], reference: Any, *, samples: int = 10_000, key: PRNGKeyArray | None = None
) -> Float[Array, ""]:
    r"""The volume of what lies above some of the points and below the reference point.

    $$\mathrm{HV}(F) = \mathrm{vol} \bigcup_{f \in F} [f, r]$$

    Exact and differentiable for two and three objectives ($n^2$ operations). Above, a Monte Carlo
    estimate by $k$ random directions $\lambda$ in the positive orthant, which is differentiable, too:

    $$\mathrm{HV}(F) = c_m \, \mathbb{E}_\lambda \max_{f \in F} \min_i
      \left(\frac{\max(0, r_i - f_i)}{\lambda_i}\right)^m, \qquad c_m = \frac{\pi^{m / 2}}{2^m \Gamma(m / 2 + 1)}$$

    **Arguments:**

    - `points`: one row per point, all objectives to be minimized. Those beyond the reference point count nothing, and
        neither do those that are not finite.
    - `reference`: $r$, one number or one for each objective.
    - `samples`: $k$, for more than three objectives.
    - `key`: draws the directions.

    **Returns:**

    The volume, zero if no point is below the reference point in all objectives.

    **Raises:**

    - `ValueError`: if there are fewer than two objectives, or the reference point has another number of them.

    ??? cite "Reference"

        ```bibtex
        @inproceedings{zhang2020random,
          title={Random Hypervolume Scalarizations for Provable Multi-Objective Black Box Optimization},
          author={Zhang, Richard and Golovin, Daniel},
          booktitle={ICML}, year={2020}
        }
        ```
    """
    m = points.shape[1]
    reference = reference_point(reference, m, points.dtype)
    moved = points - reference[None]
    # Of a point that counts nothing all coordinates are set to zero, so that it spans no box with others.
    counts = jnp.all(moved < 0, axis=1, keepdims=True) & jnp.all(jnp.isfinite(moved), axis=1, keepdims=True)
    moved = jnp.where(counts, moved, 0)
    if m in (2, 3):
        return _exact(moved)
    normal = jnp.abs(jr.normal(jr.key(0) if key is None else key, (samples, m), points.dtype))
    directions = normal / jnp.linalg.norm(normal, axis=1, keepdims=True)
    directions = jnp.maximum(directions, jnp.finfo(points.dtype).tiny ** (1 / m))
    reach = jnp.max(jnp.min(-moved[None] / directions[:, None], axis=-1), axis=1)
    ball = jnp.exp(0.5 * m * jnp.log(jnp.pi) - m * jnp.log(2.0) - jax.scipy.special.gammaln(0.5 * m + 1.0))
    return ball.astype(points.dtype) * jnp.mean(reach**m)


def reference_point(reference: Any, objectives: int, dtype: Any) -> Float[Array, " m"]:
    """One number or one for each objective, as the latter.

    **Raises:**

    - `ValueError`: if there are fewer than two objectives, or the shapes do not fit.
    """
    if objectives < 2:
        raise ValueError(f"There must be at least two objectives, but {objectives} was given.")
    given = jnp.asarray(reference, dtype)
    if given.shape not in ((), (objectives,)):
        raise ValueError(
            f"The reference point must be a number or have {objectives} entries, one for each objective, but an array "
            f"of shape {given.shape} was given."
        )
    return jnp.broadcast_to(given, (objectives,))
