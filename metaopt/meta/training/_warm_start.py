"""Learners that begin as somebody else."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import optax
from jaxtyping import Array, Float, PRNGKeyArray, PyTree

from ..._core import AbstractAlgorithm, AbstractTaskFamily, Learner, from_optax, with_horizon
from ..._core._task import check_family
from ..._core.arrays._numbers import check_counts
from ..._core.arrays._trees import compute_dtype, match
from ..estimators._devices import task_keys


def warm_start(
    learner: Learner,
    teacher: AbstractAlgorithm[Any, Any, Any],
    family: AbstractTaskFamily,
    *,
    steps: int = 500,
    horizon: int = 20,
    tasks: int = 8,
    outer: AbstractAlgorithm[Any, Any, Any] | None = None,
    key: PRNGKeyArray,
) -> tuple[Learner, Float[Array, " steps"]]:
    r"""Teach a learned rule to imitate another algorithm, before it is meta-trained.

    The teacher runs on tasks of the family, and the learner's updates $u_t$ along its trajectories, from the same
    gradients, are fitted to the teacher's updates $u_t^*$ by the relative square error, tensor by tensor:

    $$\min_\phi \; \mathbb{E}_\tau \; \frac1n \sum_{i=1}^n
      \frac{\sum_t \lVert u_{t, i} - u_{t, i}^* \rVert^2}{\sum_t \lVert u_{t, i}^* \rVert^2}$$

    An error of 1 is that of a rule that does nothing. The learner's initialization, if it has one, stays as it is.

    **Arguments:**

    - `learner`: what to teach.
    - `teacher`: any algorithm, such as tuned Adam.
    - `family`: the tasks; their signals are gradients.
    - `steps`: steps of the regression, at least 1.
    - `horizon`: how long trajectories are, at least 1; both algorithms are told. Errors are propagated back through it.
    - `tasks`: how many of them make one gradient.
    - `outer`: the algorithm of the regression; by default Adam at a rate of 0.01, with a half cosine.
    - `key`: the key of the run.

    **Returns:**

    The learner, and the error at each step of the regression.

    **Raises:**

    - `ValueError`: if `steps`, `horizon` or `tasks` is below 1.
    - `TypeError`: if the tasks of the family differ in shape.
    """
    check_counts(steps=steps, horizon=horizon, tasks=tasks)
    check_family(family)
    if outer is None:
        outer = from_optax(optax.adam(optax.cosine_decay_schedule(1e-2, steps)))
    return _fit(learner, with_horizon(teacher, horizon), family, with_horizon(outer, steps), steps, horizon, tasks, key)


@eqx.filter_jit
def _fit(
    learner: Learner,
    teacher: AbstractAlgorithm[Any, Any, Any],
    family: AbstractTaskFamily,
    outer: AbstractAlgorithm[Any, Any, Any],
    steps: int,
    horizon: int,
    tasks: int,
    key: PRNGKeyArray,
) -> tuple[Learner, Float[Array, " steps"]]:
    trained, rest = eqx.partition(learner.algorithm, eqx.is_inexact_array)

    def loss(trained: PyTree, key: PRNGKeyArray) -> Float[Array, ""]:
        student = with_horizon(eqx.combine(trained, rest), horizon)
        errors = jax.vmap(lambda key: _error(student, teacher, learner, family, horizon, key))
        return jnp.mean(errors(task_keys(key, jnp.arange(tasks))))

    outer_key, run_key = jr.split(key)

    def body(carry: tuple[PyTree, PyTree], key: PRNGKeyArray) -> tuple[tuple[PyTree, PyTree], Array]:
        state, trained = carry
        error, grads = eqx.filter_value_and_grad(loss)(trained, key)
        return outer.step(state, trained, grads, value=error), error

    start = (outer.init(trained, key=outer_key), trained)
    (_, trained), errors = jax.lax.scan(body, start, jr.split(run_key, steps))
    return eqx.tree_at(lambda x: x.algorithm, learner, eqx.combine(trained, rest)), errors


def _error(
    student: AbstractAlgorithm[Any, Any, Any],
    teacher: AbstractAlgorithm[Any, Any, Any],
    learner: Learner,
    family: AbstractTaskFamily,
    horizon: int,
    key: PRNGKeyArray,
) -> Float[Array, ""]:
    """The relative error of the student's updates along one trajectory of the teacher."""
    task_key, start_key, teacher_key, student_key, data_key = jr.split(key, 5)
    task = family.sample(key=task_key)
    params = learner.start(task, key=start_key)
    carry = (teacher.init(params, key=teacher_key), student.init(params, key=student_key), params)
    dynamic, static = eqx.partition(carry, eqx.is_array)

    def body(dynamic: PyTree, key: PRNGKeyArray) -> tuple[PyTree, tuple[list[Array], list[Array]]]:
        teacher_state, student_state, params = eqx.combine(dynamic, static)
        value, grads = task.evaluate(params, key=key)
        teacher_state, wanted = teacher.step(teacher_state, params, grads, value=value)
        student_state, given = student.step(student_state, params, grads, value=value)
        matched = match(params, grads)
        misses, sizes = [], []
        for leaf, ours, theirs in zip(matched.leaves, matched.pick(given), matched.pick(wanted), strict=True):
            dtype = compute_dtype(leaf.param.dtype)
            misses.append(jnp.sum(jnp.square(jnp.abs(ours.astype(dtype) - theirs.astype(dtype)))))
            sizes.append(jnp.sum(jnp.square(jnp.abs(theirs.astype(dtype) - leaf.param.astype(dtype)))))
        return eqx.filter((teacher_state, student_state, wanted), eqx.is_array), (misses, sizes)

    _, (misses, sizes) = jax.lax.scan(body, dynamic, jr.split(data_key, horizon))
    ratios = [jnp.sum(m) / jnp.maximum(jnp.sum(s), 1e-30) for m, s in zip(misses, sizes, strict=True)]
    return jnp.mean(jnp.stack([r.astype(jnp.result_type(float)) for r in ratios]))
