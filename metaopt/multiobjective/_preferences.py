"""Weights of objectives: what combiners are given, and vectors that cover the simplex."""

import itertools as it
import math
from typing import Any

import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from .._core.arrays._numbers import check_counts, number


def weights_leaf(x: Any) -> Float[Array, " m"] | None:
    """One number for each objective, as a leaf; or none."""
    return None if x is None else number(x)


def needed(values: Float[Array, " m"] | None, name: str) -> Float[Array, " m"]:
    """The values of the signal.

    **Raises:**

    - `ValueError`: if it has none.
    """
    if values is None:
        raise ValueError(
            f"`{name}` reads the values of the objectives, but only gradients were given. "
            "Pass `metaopt.multiobjective.Gradients(gradients, values)` as the signal."
        )
    return values


def das_dennis(objectives: int, divisions: int) -> Float[Array, "n m"]:
    r"""All vectors of nonnegative multiples of $1 / p$ that sum to one; there are $\binom{p + m - 1}{m - 1}$.

    **Arguments:**

    - `objectives`: $m$, the length of the vectors.
    - `divisions`: $p$.

    **Returns:**

    The vectors, in lexicographic order from $(0, \dots, 1)$ to $(1, 0, \dots)$.

    **Raises:**

    - `ValueError`: if one of them is below 1.

    ??? cite "Reference"

        ```bibtex
        @article{das1998normal,
          title={Normal-Boundary Intersection: A New Method for Generating the {Pareto} Surface in Nonlinear
                 Multicriteria Optimization Problems},
          author={Das, Indraneel and Dennis, John E.},
          journal={SIAM Journal on Optimization}, year={1998}
        }
        ```
    """
    check_counts(objectives=objectives, divisions=divisions)
    # Bars between stars.
    places = divisions + objectives - 1
    bars = np.array(list(it.combinations(range(places), objectives - 1)), int).reshape(-1, objectives - 1)
    edges = np.pad(bars, ((0, 0), (1, 1)), constant_values=((0, 0), (-1, places)))
    return number((np.diff(edges) - 1) / divisions)


def preferences(objectives: int, count: int, *, key: PRNGKeyArray | None = None) -> Float[Array, "n m"]:
    r"""So many vectors on the simplex: evenly spread where there is such a design, and else drawn.

    **Arguments:**

    - `objectives`: the length of the vectors.
    - `count`: how many.
    - `key`: draws those that the largest design of [`metaopt.multiobjective.das_dennis`][] with at most `count` vectors
        leaves out, from the uniform (Dirichlet) distribution.

    **Returns:**

    `count` vectors.
    """
    check_counts(objectives=objectives, count=count)
    divisions = 1
    while math.comb(divisions + objectives, objectives - 1) <= count and objectives > 1:
        divisions += 1
    even = das_dennis(objectives, divisions)[:count]
    rest = count - even.shape[0]
    if rest == 0:
        return even
    drawn = jr.dirichlet(jr.key(0) if key is None else key, jnp.ones(objectives, even.dtype), (rest,), even.dtype)
    return jnp.concatenate([even, drawn])
