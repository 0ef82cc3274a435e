"""From a method and a family to a trained learner, and from there to a task."""

from typing import Any

import jax.random as jr
from jaxtyping import PRNGKeyArray

from .._core import AbstractAlgorithm, AbstractTask, AbstractTaskFamily, Learner, Trajectory, unroll
from ..meta import MetaResult, meta_train
from .base import AbstractMethod


def meta_learn(
    method: AbstractMethod,
    family: AbstractTaskFamily,
    *,
    outer: AbstractAlgorithm[Any, Any, Any],
    steps: int,
    key: PRNGKeyArray,
    **options: Any,
) -> MetaResult:
    """Learn an initialization: `method.setup`, then [`metaopt.meta_train`][].

    **Arguments:**

    - `method`: [`metaopt.fewshot.MAML`][] or another.
    - `family`: the tasks to learn from.
    - `outer`: the algorithm that trains.
    - `steps`: how many meta-steps.
    - `key`: draws the initialization and the tasks.
    - `**options`: of [`metaopt.meta_train`][]: validation, checkpoints, progress.

    **Returns:**

    A [`metaopt.meta.MetaResult`][]; its `learner` goes into [`metaopt.fewshot.adapt`][].
    """
    setup_key, train_key = jr.split(key)
    setup = method.setup(family, key=setup_key)
    return meta_train(
        setup.learner, setup.problem, estimator=setup.estimator, outer=outer, steps=steps, key=train_key, **options
    )


def adapt(learner: Learner, task: AbstractTask[Any, Any], *, steps: int, key: PRNGKeyArray) -> Trajectory[Any, Any]:
    """Adapt a learned initialization to a task: a few steps of the learner's algorithm on its support data.

    ```python
    import jax.random as jr
    from metaopt import fewshot, tasks

    family = tasks.Sinusoids(shots=10)
    learner = fewshot.MAML().setup(family, key=jr.key(0)).learner
    task = family.sample(key=jr.key(1))
    params = fewshot.adapt(learner, task, steps=5, key=jr.key(2)).params
    error = task.measure(params, key=jr.key(3))
    ```

    This is [`metaopt.unroll`][] of a learner that has an initialization; use it under `jax.jit`, and under `jax.vmap`
    for many tasks.

    **Arguments:**

    - `learner`: of [`metaopt.fewshot.meta_learn`][].
    - `task`: the task.
    - `steps`: how many steps, at least 1; may be more than in training.
    - `key`: draws minibatches, for tasks that have them.

    **Returns:**

    A [`metaopt.Trajectory`][]: the adapted `params`, and the `values` on the way.

    **Raises:**

    - `ValueError`: if the learner has no initialization, or `steps` is below 1.
    """
    if learner.initial is None:
        raise ValueError(
            "The learner has no `initial` to adapt. Learn one with `metaopt.fewshot.meta_learn`, or run the task from "
            "its own start with `metaopt.unroll`."
        )
    return unroll(learner, task, steps=steps, key=key)
