"""How many tasks run side by side on a processor, so that what they need stays in its cache."""

import dataclasses
from collections.abc import Iterator
from typing import Any

import equinox as eqx
import jax
import jax.extend.core as jex
import jax.numpy as jnp
import jax.random as jr
import jax.tree_util as jtu
import numpy as np
from jax.core import ShapedArray

from ..._core import AbstractTaskFamily, Inner, Learner, Mixture, inner_step
from ..base import MetaProblem


# What a core has of its caches, about. It is no measurement of this machine, since batches change the last digits, and
# a run that goes on elsewhere gives the same ones.
_CACHE = 4 * 2**20


def fit_cache(problem: MetaProblem, learner: Learner) -> MetaProblem:
    """A problem without `batch_size` gets one on processors: all tasks, or one where the largest arrays of a step of
    all of them do not fit into the cache.

    With rules whose network has many units that made a step up to 1.7 times as fast, where the rule itself is small all
    tasks at once are up to twice as fast; between one and all there was nothing better than both.
    """
    if problem.batch_size is not None or jax.default_backend() != "cpu":
        return problem
    # Estimates without derivatives run two particles of each task.
    families = problem.family.families if isinstance(problem.family, Mixture) else (problem.family,)
    fits = 2 * problem.tasks * max(_largest(family, learner) for family in families) <= _CACHE
    return problem if fits else dataclasses.replace(problem, batch_size=1)


def _largest(family: AbstractTaskFamily, learner: Learner) -> int:
    """The bytes of the largest array in an inner step of one task, by shapes alone."""

    def step(learner: Learner) -> Any:
        task = family.sample(key=jr.key(0))
        params = learner.start(task, key=jr.key(0))
        inner = Inner(learner.algorithm.init(params, key=jr.key(0)), params)
        return eqx.filter(inner_step(learner.algorithm, task, inner, key=jr.key(0)), eqx.is_array)

    dynamic, static = eqx.partition(learner, eqx.is_array)
    try:
        jaxpr = jax.make_jaxpr(lambda dynamic: step(eqx.combine(dynamic, static)))(dynamic)
    except Exception:
        return 0  # what is wrong is said where it is run
    return max(_sizes(jaxpr.jaxpr), default=0)


def _sizes(jaxpr: jex.Jaxpr) -> Iterator[int]:
    """The bytes of each result in a program, and in those that it calls."""
    for equation in jaxpr.eqns:
        for value in equation.outvars:
            aval: Any = value.aval
            # Neither tokens nor random keys.
            if isinstance(aval, ShapedArray) and not jnp.issubdtype(aval.dtype, jax.dtypes.extended):
                yield int(np.prod(aval.shape)) * aval.dtype.itemsize
        for part in jtu.tree_leaves(list(equation.params.values()), is_leaf=_is_program):
            if _is_program(part):
                yield from _sizes(part.jaxpr if isinstance(part, jex.ClosedJaxpr) else part)


def _is_program(x: Any) -> bool:
    return isinstance(x, jex.ClosedJaxpr | jex.Jaxpr)
