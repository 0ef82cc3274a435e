"""Points of the unit cube: random, of low discrepancy, or stratified."""

import warnings

import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Float, PRNGKeyArray

from ..._core.arrays._numbers import usual_promotion
from ..base import AbstractSampler


class Uniform(AbstractSampler):
    """Independent points."""

    def unit(self, count: int, dimension: int, *, key: PRNGKeyArray) -> Float[Array, "{count} {dimension}"]:
        return jr.uniform(key, (count, dimension))


class Halton(AbstractSampler):
    """A randomized Halton sequence, computed by `tensorflow_probability`.

    ??? cite "Reference"

        ```bibtex
        @article{halton1960efficiency,
            title={On the efficiency of certain quasi-random sequences of points in evaluating multi-dimensional
                integrals},
            author={Halton, John H.},
            journal={Numerische Mathematik},
            volume={2},
            pages={84--90},
            year={1960},
        }
        ```
    """

    def unit(self, count: int, dimension: int, *, key: PRNGKeyArray) -> Float[Array, "{count} {dimension}"]:
        from tensorflow_probability.substrates import jax as tfp

        # The library mixes integers and floats, asks for the shape of nothing, and for integers of 64 bits; and warns.
        with usual_promotion(), warnings.catch_warnings(action="ignore"):
            dtype = jnp.result_type(float)
            return tfp.mcmc.sample_halton_sequence(dimension, count, dtype=dtype, randomized=True, seed=key)


class LatinHypercube(AbstractSampler):
    """One point in each of as many layers as there are points, along each axis.

    ??? cite "Reference"

        ```bibtex
        @article{mckay1979comparison,
            title={A comparison of three methods for selecting values of input variables in the analysis of output
                from a computer code},
            author={McKay, Michael D. and Beckman, Richard J. and Conover, William J.},
            journal={Technometrics},
            volume={21},
            number={2},
            pages={239--245},
            year={1979},
        }
        ```
    """

    def unit(self, count: int, dimension: int, *, key: PRNGKeyArray) -> Float[Array, "{count} {dimension}"]:
        layer_key, place_key = jr.split(key)
        layers = jnp.stack([jr.permutation(k, count) for k in jr.split(layer_key, dimension)], axis=1)
        places = jr.uniform(place_key, (count, dimension))
        return (layers.astype(places.dtype) + places) / count
