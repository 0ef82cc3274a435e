"""The parameters of the most similar problem."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from ..._core.arrays._kernels import correlations
from ._predictor import AbstractPredictor, Weights


class NearestNeighbor(AbstractPredictor):
    r"""Predict the parameters of the solved problem whose features are nearest.

    With several at the same distance, the one that has been in memory longest. Its variance is that of a difference
    between two problems whose parameters are correlated by $k = \exp(-\frac12 d^2)$ at distance $d$: $2 (1 - k)$, at
    most 1.
    """

    def weigh(
        self, features: Float[Array, "capacity d"], filled: Bool[Array, " capacity"], query: Float[Array, " d"]
    ) -> Weights:
        distances = jnp.where(filled, jnp.sum(jnp.square(features - query[None]), axis=1), jnp.inf)
        nearest = jnp.argmin(distances)
        weights = jax.nn.one_hot(nearest, features.shape[0], dtype=features.dtype)
        likeness = correlations(features, query[None])[nearest, 0]
        return Weights(weights, jnp.minimum(2.0 * (1.0 - likeness), 1.0))
