"""The abstract method, and what it sets up."""

import abc
from typing import Any

import equinox as eqx
from jaxtyping import PRNGKeyArray

from .._core import AbstractTaskFamily, Learner
from ..meta import AbstractEstimator, MetaProblem


class Setup(eqx.Module):
    """What [`metaopt.meta_train`][] needs to train an initialization.

    ```python
    from metaopt import fewshot, tasks
    import jax.random as jr

    setup = fewshot.MAML().setup(tasks.Sinusoids(), key=jr.key(0))
    setup.learner, setup.problem, setup.estimator
    ```
    """

    learner: Learner
    problem: MetaProblem
    estimator: AbstractEstimator[Any]


class AbstractMethod(eqx.Module):
    """A way to learn an initialization: which leaves are trained, on which objective, with which estimator.

    A method has no loop of its own. It says what to plug into the one that everything is trained with.
    """

    @abc.abstractmethod
    def setup(self, family: AbstractTaskFamily, *, key: PRNGKeyArray) -> Setup:
        """Make a learner whose initialization is that of one task of the family, and the problem of training it."""
