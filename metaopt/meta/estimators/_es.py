"""Evolution strategies on full inner loops."""

import equinox as eqx
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, PRNGKeyArray

from ..._core import Learner
from ..._core.arrays._numbers import POSITIVE
from ..base import AbstractSpreadEstimator, MetaGradient, MetaProblem
from ._antithetic import advance_pair, begin_pair, check_std, draw, pair, slope
from ._batches import over_tasks
from ._devices import task_indices, task_keys
from ._episode import plan
from ._partition import average, partition


class ES(AbstractSpreadEstimator[None]):
    r"""Antithetic evolution strategies on whole episodes.

    $$\hat g = \frac1N \sum_{i=1}^N \frac{L(\phi + \epsilon_i) - L(\phi - \epsilon_i)}{2 \sigma^2} \, \epsilon_i,
      \qquad \epsilon_i \sim N(0, \sigma^2 I)$$

    Unbiased for the gradient of the smoothed meta-objective $\mathbb{E}_\epsilon L(\phi + \epsilon)$. Each
    estimate costs two whole inner loops per task, which share start and minibatches.

    **Arguments:**

    - `std`: the standard deviation $\sigma$ of the perturbations, for all trained leaves alike.

    ??? cite "Reference"

        ```bibtex
        @article{salimans2017evolution,
          title={Evolution Strategies as a Scalable Alternative to Reinforcement Learning},
          author={Salimans, Tim and Ho, Jonathan and Chen, Xi and Sidor, Szymon and Sutskever, Ilya},
          journal={arXiv:1703.03864}, year={2017}
        }
        ```
    """

    std: float = eqx.field(static=True, default=0.01)

    def __check_init__(self) -> None:
        POSITIVE.check(std=self.std)
        check_std(self.std)

    def init(self, learner: Learner, problem: MetaProblem, *, key: PRNGKeyArray) -> None:
        del key
        partition(learner, problem)

    def estimate(
        self, state: None, learner: Learner, problem: MetaProblem, *, key: PRNGKeyArray
    ) -> tuple[None, MetaGradient]:
        trained, rest = partition(learner, problem)

        def one(key: PRNGKeyArray) -> tuple[Learner, Array, Array]:
            plan_key, noise_key, begin_key, run_key = jr.split(key, 4)
            drawn = plan(problem, key=plan_key)
            noise = draw(trained, self.std, key=noise_key)
            particles = pair(trained, noise)
            progress = begin_pair(particles, rest, problem, drawn, key=begin_key)
            clock, steps = jnp.zeros((), jnp.int32), problem.horizon.longest
            _, outcome = advance_pair(particles, rest, problem, drawn, progress, clock, steps=steps, key=run_key)
            return slope(outcome, noise, self.std)

        grads, values, finite = over_tasks(one, problem, task_keys(key, task_indices(problem)))
        return None, average(grads, values, finite, 1.0, trained, problem)
