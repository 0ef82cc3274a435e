"""Truncated backpropagation through inner loops."""

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import jax.tree_util as jtu
from jaxtyping import Array, Float, PRNGKeyArray, PyTree

from ..._core import Learner
from ..._core.arrays._numbers import COUNT
from ..base import AbstractEstimator, MetaGradient, MetaProblem
from ._batches import over_tasks
from ._devices import task_keys
from ._episode import Outcome, Progress, advance
from ._partition import mean_of_sums, partition
from ._persistent import Episodes, check_truncation, finish, first_episodes, restart_done


class TruncatedUnroll(AbstractEstimator[Episodes]):
    r"""Backpropagation through windows of `truncation` steps of running episodes.

    $$\hat g = \frac{M}{N} \sum_{i=1}^N \nabla_\phi
      \sum_{t = k_i + 1}^{k_i + K} c_t(\phi; \mathrm{stop}(\theta_{k_i}))$$

    with $M$ the number of windows in an episode. Cheap and of low variance, but biased: a window does not see what it
    does to later ones.

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

        def loss(trained: Learner) -> tuple[Float[Array, ""], tuple[Episodes, Progress, Outcome]]:
            learner = eqx.combine(trained, rest)
            state_ = restart_done(state, learner, problem, key=restart_key)

            def one(plan: PyTree, progress: Progress, clock: Array, key: PRNGKeyArray) -> tuple[Progress, Outcome]:
                return advance(
                    learner, problem, plan, progress, clock, steps=self.truncation, key=key, remat=self.remat
                )

            keys = task_keys(run_key, state_.index)
            progress, outcome = over_tasks(one, problem, state_.plan, state_.progress, state_.clock, keys)
            return jnp.sum(outcome.contribution), (state_, progress, outcome)

        (_, (state, progress, outcome)), grads = eqx.filter_value_and_grad(loss, has_aux=True)(trained)
        progress = jtu.tree_map(lambda x: jax.lax.stop_gradient(x) if eqx.is_array(x) else x, progress)
        finite = jnp.isfinite(outcome.contribution)
        state = finish(state, progress, self.truncation, finite)
        return state, mean_of_sums(grads, outcome.value, jnp.ones_like(finite), ~finite, windows, trained, problem)
