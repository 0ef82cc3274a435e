"""Several families at once."""

import dataclasses
from collections.abc import Sequence
from typing import TypeVar

import equinox as eqx
import jax.numpy as jnp
import jax.random as jr
import jax.tree_util as jtu
from jaxtyping import Array, Float, PRNGKeyArray, PyTree

from ..._core import Learner, Mixture
from ..._core.arrays._trees import global_norm
from ..base import AbstractEstimator, AbstractSpreadEstimator, MetaGradient, MetaProblem


S = TypeVar("S")


class Mixed(AbstractSpreadEstimator[tuple[S, ...]]):
    r"""Estimate the meta-gradient of each family of a mixture by itself, and add them up.

    $$\hat g = \sum_i w_i \frac{\hat g_i}{\lVert \hat g_i \rVert}$$

    with the shares $w_i$ of the [`metaopt.tasks.Mixture`][]. Without the norms a family whose losses are large, or
    whose estimates are noisy, would be the only one that counts. Each family has `problem.tasks` tasks.

    **Arguments:**

    - `inner`: the estimator of each.
    - `normalize`: whether to divide by the norms.
    """

    inner: AbstractEstimator[S]
    normalize: bool = eqx.field(static=True, default=True)

    def init(self, learner: Learner, problem: MetaProblem, *, key: PRNGKeyArray) -> tuple[S, ...]:
        parts = split(problem)
        keys = jr.split(key, len(parts))
        return tuple(self.inner.init(learner, part, key=k) for part, k in zip(parts, keys, strict=True))

    def estimate(
        self, state: tuple[S, ...], learner: Learner, problem: MetaProblem, *, key: PRNGKeyArray
    ) -> tuple[tuple[S, ...], MetaGradient]:
        parts, shares = split(problem), mixture(problem).shares
        keys = jr.split(key, len(parts))
        found: list[tuple[S, MetaGradient]] = []
        for own, part, k in zip(state, parts, keys, strict=True):
            # One after the other: programs of two families that run side by side on a CPU, each with matrix
            # decompositions, can wait for each other's threads forever. XLA would not see through this.
            k = jnp.where(jnp.isnan(found[-1][1].value), jr.fold_in(k, 1), k) if found else k
            found.append(self.inner.estimate(own, learner, part, key=k))
        estimates = [estimate for _, estimate in found]
        values = jnp.stack([estimate.value for estimate in estimates])
        together = dataclasses.replace(self.add_up(estimates, shares), families=values)
        return tuple(own for own, _ in found), together

    def add_up(
        self, estimates: Sequence[MetaGradient], shares: Sequence[float] | Sequence[Float[Array, ""]]
    ) -> MetaGradient:
        """The estimate of all families, of one of each and what they count."""
        scales = [self._scale(e.grads, share) for e, share in zip(estimates, shares, strict=True)]

        def add(*grads: Array) -> Array:
            terms = [jnp.where(s > 0, g * s.astype(g.dtype), 0) for g, s in zip(grads, scales, strict=True)]
            return jnp.sum(jnp.stack(terms), axis=0)

        grads = jtu.tree_map(add, *[estimate.grads for estimate in estimates])
        value = jnp.sum(jnp.stack([share * e.value for e, share in zip(estimates, shares, strict=True)]))
        lost = jnp.sum(jnp.stack([estimate.nonfinite for estimate in estimates]))
        variances = [
            e.variance * jnp.square(s) for e, s in zip(estimates, scales, strict=True) if e.variance is not None
        ]
        variance = jnp.nansum(jnp.stack(variances)) if len(variances) == len(estimates) else None
        return MetaGradient(grads, value, lost.astype(jnp.int32), variance)

    def _scale(self, grads: PyTree, share: float | Float[Array, ""]) -> Float[Array, ""]:
        """What a family's gradient is multiplied with; zero if it is not finite or zero."""
        norm = global_norm(grads)
        fine = jnp.isfinite(norm) & (norm > 0)
        return jnp.where(fine, share / jnp.where(fine, norm, 1.0) if self.normalize else share, 0.0)


def mixture(problem: MetaProblem) -> Mixture:
    """The families of a problem.

    **Raises:**

    - `TypeError`: if there is one only.
    """
    if not isinstance(problem.family, Mixture):
        raise TypeError(
            f"`Mixed` is for several families, but `{type(problem.family).__name__}` is one. Give the problem a "
            "`metaopt.tasks.Mixture`, or use the inner estimator itself."
        )
    return problem.family


def split(problem: MetaProblem) -> list[MetaProblem]:
    """One problem per family."""
    return [dataclasses.replace(problem, family=family) for family in mixture(problem).families]
