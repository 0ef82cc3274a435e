"""The way that adaptation goes, as a meta-gradient."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import jax.tree_util as jtu
from jaxtyping import Array, Float, PRNGKeyArray, PyTree

from ..._core import Learner, unroll
from ..._core.arrays._trees import all_finite, is_none
from ..base import AbstractSpreadEstimator, MetaGradient, MetaProblem
from ._batches import over_tasks
from ._devices import task_indices, task_keys
from ._episode import plan
from ._partition import average, partition


class Displacement(AbstractSpreadEstimator[None]):
    r"""The difference between the initialization and where the inner loop ends, on a batch of tasks (Reptile).

    $$\hat g = \frac1N \sum_{i=1}^N \big(\phi - \theta_H(\phi; \tau_i)\big)$$

    No derivative is taken of anything, so the inner algorithm may be any, and memory does not grow with the horizon.
    It moves an initialization only; the objective of the problem is not looked at. Each inner loop has as many steps
    as the longest horizon. As the signal of gradient descent with rate $\epsilon$ it is the published
    $\phi \leftarrow \phi + \epsilon (\bar\theta_H - \phi)$.

    ??? cite "Reference"

        ```bibtex
        @article{nichol2018first,
          title={On First-Order Meta-Learning Algorithms},
          author={Nichol, Alex and Achiam, Joshua and Schulman, John},
          journal={arXiv:1803.02999}, year={2018}
        }
        ```
    """

    def init(self, learner: Learner, problem: MetaProblem, *, key: PRNGKeyArray) -> None:
        del key
        _moved(learner, problem)

    def estimate(
        self, state: None, learner: Learner, problem: MetaProblem, *, key: PRNGKeyArray
    ) -> tuple[None, MetaGradient]:
        trained = _moved(learner, problem)
        keys = task_keys(key, task_indices(problem))

        def one(key: PRNGKeyArray) -> tuple[PyTree, Float[Array, ""], Array]:
            plan_key, run_key = jr.split(key)
            drawn = plan(problem, key=plan_key)
            trajectory = unroll(learner, drawn.task, steps=problem.horizon.longest, key=run_key)
            ended = eqx.filter(trajectory.params, jtu.tree_map(eqx.is_array, trained.initial))
            moved = jtu.tree_map(lambda a, b: a - b, trained.initial, ended)
            value = jnp.mean(trajectory.values)
            finite = all_finite((moved, value))
            moved = jtu.tree_map(lambda x: jnp.where(finite, x, jnp.zeros_like(x)), moved)
            return moved, value, finite

        moved, values, finite = jax.lax.stop_gradient(over_tasks(one, problem, keys))
        nothing: Any = jtu.tree_map(lambda _: None, trained)
        grads = eqx.tree_at(lambda x: x.initial, nothing, moved, is_leaf=is_none)
        return None, average(grads, values, finite, 1.0, trained, problem)


def _moved(learner: Learner, problem: MetaProblem) -> Learner:
    """The trained leaves, which must all be of the initialization."""
    trained, _ = partition(learner, problem)
    if learner.initial is None or jtu.tree_leaves(trained.algorithm):
        wrong = "the learner has no `initial`" if learner.initial is None else "leaves of the algorithm are to be, too"
        raise ValueError(
            f"`Displacement` trains an initialization and nothing else, but {wrong}. Build the learner and the problem "
            "with `metaopt.fewshot.Reptile`, or give the problem `trainable=only(lambda learner: learner.initial)`."
        )
    return trained
