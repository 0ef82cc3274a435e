"""How near a front is to another, and how evenly its points lie."""

import jax.numpy as jnp
from jaxtyping import Array, Float


def igd_plus(points: Float[Array, "n m"], front: Float[Array, "k m"]) -> Float[Array, ""]:
    r"""The modified inverted generational distance, by how much points of a known front are not reached.

    $$\mathrm{IGD}^+ = \frac{1}{k} \sum_{z} \min_f \lVert \max(f - z, 0) \rVert$$

    **Arguments:**

    - `points`: what was found, to be minimized.
    - `front`: points $z$ of the known front.

    **Returns:**

    The mean distance; zero if each $z$ is reached or dominated.

    ??? cite "Reference"

        ```bibtex
        @inproceedings{ishibuchi2015modified,
          title={Modified Distance Calculation in Generational Distance and Inverted Generational Distance},
          author={Ishibuchi, Hisao and Masuda, Hiroyuki and Tanigaki, Yuki and Nojima, Yusuke},
          booktitle={EMO}, year={2015}
        }
        ```
    """
    worse = jnp.maximum(points[:, None] - front[None], 0)
    return jnp.mean(jnp.min(jnp.linalg.norm(worse, axis=-1), axis=0))


def spread(points: Float[Array, "n m"]) -> Float[Array, ""]:
    r"""The spacing of a front: the mean deviation of nearest-neighbor distances, relative to their mean.

    $$\Delta = \frac{\sum_i \lvert d_i - \bar d \rvert}{n \bar d}, \qquad d_i = \min_{j \ne i} \lVert f_i - f_j \rVert$$

    **Arguments:**

    - `points`: at least two points, with objectives on like scales.

    **Returns:**

    Zero if all points are equally far from their nearest neighbors.

    **Raises:**

    - `ValueError`: if there are fewer than two points.

    ??? cite "Reference"

        ```bibtex
        @article{deb2002fast,
          title={A Fast and Elitist Multiobjective Genetic Algorithm: {NSGA-II}},
          author={Deb, Kalyanmoy and Pratap, Amrit and Agarwal, Sameer and Meyarivan, T.},
          journal={IEEE Transactions on Evolutionary Computation}, year={2002}
        }
        ```
    """
    if points.shape[0] < 2:
        raise ValueError(f"The spread needs at least two points, but {points.shape[0]} was given.")
    between = jnp.linalg.norm(points[:, None] - points[None], axis=-1)
    own = jnp.eye(points.shape[0], dtype=bool)
    nearest = jnp.min(jnp.where(own, jnp.inf, between), axis=1)
    mean = jnp.mean(nearest)
    return jnp.mean(jnp.abs(nearest - mean)) / jnp.where(mean > 0, mean, 1)


def crowding(points: Float[Array, "n m"]) -> Float[Array, " n"]:
    r"""The crowding distance of each point: the sum over objectives of the gap between its neighbors there.

    Each objective is divided by its range. The outermost points of each objective have infinite distances.

    **Arguments:**

    - `points`: one row per point.

    **Returns:**

    One distance for each point.

    ??? cite "Reference"

        ```bibtex
        @article{deb2002fast,
          title={A Fast and Elitist Multiobjective Genetic Algorithm: {NSGA-II}},
          author={Deb, Kalyanmoy and Pratap, Amrit and Agarwal, Sameer and Meyarivan, T.},
          journal={IEEE Transactions on Evolutionary Computation}, year={2002}
        }
        ```
    """
    total = jnp.zeros(points.shape[0], points.dtype)
    for i in range(points.shape[1]):
        order = jnp.argsort(points[:, i])
        ordered = points[order, i]
        extent = ordered[-1] - ordered[0]
        edge = jnp.full(1, jnp.inf, points.dtype)
        gaps = jnp.concatenate([edge, (ordered[2:] - ordered[:-2]) / jnp.where(extent > 0, extent, 1), edge])
        total = total.at[order].add(gaps[: points.shape[0]])
    return total


def riesz_energy(points: Float[Array, "n m"], exponent: float | None = None) -> Float[Array, ""]:
    r"""The Riesz energy $\sum_{i \ne j} \lVert f_i - f_j \rVert^{-s}$, which is least for evenly spread points.

    **Arguments:**

    - `points`: one row per point.
    - `exponent`: $s$; by default the number of objectives.

    **Returns:**

    The energy, divided by $n (n - 1)$. Its derivative repels points from each other.

    ??? cite "Reference"

        ```bibtex
        @article{hardin2004discretizing,
          title={Discretizing Manifolds via Minimum Energy Points},
          author={Hardin, Douglas P. and Saff, Edward B.},
          journal={Notices of the AMS}, year={2004}
        }
        ```
    """
    n, m = points.shape
    power = float(m if exponent is None else exponent)
    own = jnp.eye(n, dtype=bool)
    square = jnp.sum(jnp.square(points[:, None] - points[None]), axis=-1)
    # Points that coincide would have infinite energy, and no derivative.
    square = jnp.where(own, 1, square) + jnp.finfo(points.dtype).eps
    return jnp.sum(jnp.where(own, 0, square ** (-0.5 * power))) / max(n * (n - 1), 1)
