"""Meta-gradients from the implicit function theorem."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import jax.tree_util as jtu
import lineax as lx
from jaxtyping import Array, Bool, Float, PRNGKeyArray, PyTree

from ..._core import Learner, unroll
from ..._core.arrays._numbers import POSITIVE, check_counts
from ..._core.arrays._trees import all_finite
from .._objectives import FinalLoss
from ..base import AbstractSpreadEstimator, MetaGradient, MetaProblem
from ..regularizers._proximal import Proximal
from ._batches import over_tasks
from ._devices import task_indices, task_keys
from ._episode import plan
from ._partition import average, partition


class Implicit(AbstractSpreadEstimator[None]):
    r"""The gradient of the loss at the minimum of a proximal inner problem, on a batch of tasks (iMAML).

    $$\theta^* = \arg\min_\theta L_\tau(\theta) + \tfrac\lambda2 \lVert \theta - \phi \rVert^2, \qquad
      r(\theta^*, \phi) = \nabla L_\tau(\theta^*) + \lambda (\theta^* - \phi) = 0$$

    $$\frac{d M_\tau(\theta^*)}{d\phi} = -\Big(\frac{\partial r}{\partial \phi}\Big)^{\!\top}
      \big(\nabla^2 L_\tau(\theta^*) + \lambda I\big)^{-1} \nabla M_\tau(\theta^*)$$

    It does not matter how the inner loop came to $\theta^*$: nothing of it is stored, so memory does not grow with the
    horizon, and the inner algorithm need not be differentiable. The linear system is solved with conjugate gradients.
    The gradient is as exact as the inner loop is converged. The inner algorithm must be a [`metaopt.meta.Proximal`][];
    its strength is trained if the problem says so, other leaves of the algorithm get a gradient of zero.

    For the system to have a solution that conjugate gradients find, $\lambda$ must exceed the most negative curvature
    of the loss.

    **Arguments:**

    - `tolerance`: conjugate gradients stop when the residual is this small, relative to the right-hand side.
    - `max_steps`: how many steps they have at most. Stopped there, the solution so far is used.

    **Raises:**

    - `ValueError`: if a number is not positive.

    ??? cite "Reference"

        ```bibtex
        @inproceedings{rajeswaran2019meta,
          title={Meta-Learning with Implicit Gradients},
          author={Rajeswaran, Aravind and Finn, Chelsea and Kakade, Sham and Levine, Sergey},
          booktitle={NeurIPS}, year={2019}
        }
        ```
    """

    tolerance: float = eqx.field(static=True, default=1e-5)
    max_steps: int = eqx.field(static=True, default=20)

    def __check_init__(self) -> None:
        POSITIVE.check(tolerance=self.tolerance)
        check_counts(max_steps=self.max_steps)

    def init(self, learner: Learner, problem: MetaProblem, *, key: PRNGKeyArray) -> None:
        del key
        _check(learner, problem)
        partition(learner, problem)

    def estimate(
        self, state: None, learner: Learner, problem: MetaProblem, *, key: PRNGKeyArray
    ) -> tuple[None, MetaGradient]:
        _check(learner, problem)
        trained, rest = partition(learner, problem)
        keys = task_keys(key, task_indices(problem))

        def one(key: PRNGKeyArray) -> tuple[PyTree, Float[Array, ""], Bool[Array, ""]]:
            plan_key, run_key, batch_key, end_key = jr.split(key, 4)
            task = plan(problem, key=plan_key).task
            trajectory = jax.lax.stop_gradient(
                eqx.filter(unroll(learner, task, steps=problem.horizon.longest, key=run_key), eqx.is_array)
            )
            _, fixed = eqx.partition(learner.initial, eqx.is_inexact_array)
            solved = eqx.filter(trajectory.params, eqx.is_inexact_array)

            def measure(solved: PyTree) -> Float[Array, ""]:
                params = eqx.combine(solved, fixed)
                if problem.objective.queries:
                    return task.measure(params, key=end_key)
                return task.evaluate(params, key=end_key)[0]

            def residual(solved: PyTree, trained: Learner) -> PyTree:
                learner = eqx.combine(trained, rest)
                params = eqx.combine(solved, fixed)
                _, signal = task.evaluate(params, key=batch_key)
                assert isinstance(learner.algorithm, Proximal)
                return learner.algorithm.pull(params, learner.initial, signal)

            value, wanted = eqx.filter_value_and_grad(measure)(solved)
            _, curvature = jax.linearize(lambda solved: residual(solved, trained), solved)
            shapes = jax.eval_shape(lambda: solved)
            operator = lx.FunctionLinearOperator(curvature, shapes, lx.positive_semidefinite_tag)
            solver = lx.CG(rtol=self.tolerance, atol=self.tolerance * 1e-3, max_steps=self.max_steps)
            answer = lx.linear_solve(operator, wanted, solver, throw=False).value
            _, pull_back = eqx.filter_vjp(lambda trained: residual(solved, trained), trained)
            (grads,) = pull_back(jtu.tree_map(jnp.negative, answer))
            finite = all_finite((grads, value))
            grads = jtu.tree_map(lambda g: jnp.where(finite, g, jnp.zeros_like(g)), grads)
            return grads, (jnp.sum(trajectory.values) + value) / (problem.horizon.longest + 1), finite

        grads, values, finite = over_tasks(one, problem, keys)
        return None, average(grads, values, finite, 1.0, trained, problem)


def _check(learner: Learner, problem: MetaProblem) -> None:
    if not isinstance(learner.algorithm, Proximal):
        raise TypeError(
            f"`Implicit` needs an inner problem whose minimum depends on the start, but the algorithm is a "
            f"`{type(learner.algorithm).__name__}`. Wrap it: `metaopt.meta.Proximal(algorithm, strength)`."
        )
    if learner.initial is None:
        raise ValueError("`Implicit` trains an initialization, but the learner has none. Give it an `initial`.")
    objective: Any = problem.objective
    if not isinstance(objective, FinalLoss):
        raise TypeError(
            f"`Implicit` knows the end of an inner loop only, but the objective is a `{type(objective).__name__}`. "
            "Use `metaopt.meta.FinalLoss(queries=True)`."
        )
