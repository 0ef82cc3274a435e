"""Truncated backpropagation through inner loops."""

import equinox as eqx
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Float, PRNGKeyArray, PyTree

from ..._core import Learner
from ..._core.arrays._numbers import COUNT
from ..._core.arrays._trees import all_finite
from ..base import AbstractSpreadEstimator, MetaGradient, MetaProblem
from ._batches import over_tasks
from ._devices import task_keys
from ._episode import Outcome, advance
from ._partition import average, partition
from ._persistent import Episodes, check_truncation, finish, first_episodes, restart_if_done


class TruncatedUnroll(AbstractSpreadEstimator[Episodes]):
    r"""Backpropagation through windows of `truncation` steps of running episodes.

    $$\hat g = \frac{M}{N} \sum_{i=1}^N \nabla_\phi
      \sum_{t = k_i + 1}^{k_i + K} c_t(\phi; \mathrm{stop}(\theta_{k_i}))$$

    with $M$ the number of windows in an episode. Cheap and of low variance, but biased: a window does not see what it
    does to later ones. Tasks whose value or gradient is not finite are left out of the mean, and counted; one whose
    value is not finite starts anew.

    **Arguments:**

    - `truncation`: the number of steps $K$ in a window, at most the longest horizon.
    - `stagger`: start the tasks at different clocks.
    - `remat`: recompute inner steps in the backward pass to save memory.

    ??? cite "Reference"

        ```bibtex
        @article{werbos1990backpropagation,
          title={Backpropagation through time: what it does and how to do it},
          author={Werbos, Paul J},
          journal={Proceedings of the IEEE}, year={1990}
        }
        ```
    """

    truncation: int = eqx.field(static=True, default=20)
    stagger: bool = eqx.field(static=True, default=True)
    remat: bool = eqx.field(static=True, default=False)

    def __check_init__(self) -> None:
        COUNT.check(truncation=self.truncation)

    def init(self, learner: Learner, problem: MetaProblem, *, key: PRNGKeyArray) -> Episodes:
        check_truncation(self.truncation, problem)
        partition(learner, problem)
        return first_episodes(learner, problem, self.truncation, self.stagger, key=key)

    def estimate(
        self, state: Episodes, learner: Learner, problem: MetaProblem, *, key: PRNGKeyArray
    ) -> tuple[Episodes, MetaGradient]:
        check_truncation(self.truncation, problem)
        trained, rest = partition(learner, problem)
        restart_key, run_key = jr.split(key)
        windows = problem.horizon.mean_truncations(self.truncation)

        def loss(trained: Learner, episode: Episodes, key: PRNGKeyArray) -> tuple[Float[Array, ""], PyTree]:
            learner = eqx.combine(trained, rest)
            episode = restart_if_done(episode, learner, problem, key=restart_key)
            progress, outcome = advance(
                learner,
                problem,
                episode.plan,
                episode.progress,
                episode.clock,
                steps=self.truncation,
                key=key,
                remat=self.remat,
            )
            return outcome.contribution, (eqx.tree_at(lambda e: e.progress, episode, progress), outcome)

        def one(episode: Episodes, key: PRNGKeyArray) -> tuple[Episodes, Outcome, Learner]:
            (_, (episode, outcome)), grads = eqx.filter_value_and_grad(loss, has_aux=True)(trained, episode, key)
            return episode, outcome, grads

        keys = task_keys(run_key, state.index)
        state, outcome, grads = over_tasks(one, problem, state, keys)
        finite = jnp.isfinite(outcome.contribution)
        # A task without a gradient does not spoil the mean of the others.
        known = finite & eqx.filter_vmap(all_finite)(grads) & jnp.isfinite(outcome.value)
        state = finish(state, state.progress, self.truncation, finite)
        return state, average(grads, outcome.value, known, windows, trained, problem)
