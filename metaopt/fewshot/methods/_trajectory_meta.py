"""Gradient-based learning of whole trajectories."""

from typing import Any

import equinox as eqx
from jaxtyping import PRNGKeyArray

from ..._core import AbstractAlgorithm, AbstractTaskFamily, Learner
from ..._core.arrays._numbers import NONNEGATIVE, check_counts
from ...meta import ConstantHorizon, MeanLoss, MetaProblem, Unrolled
from ..base import AbstractMethod, Setup
from ..inner._per_parameter_sgd import PerParameterSGD
from ._common import draw_initial


class TrajectoryMeta(AbstractMethod):
    r"""Learn where to start and how to go on, on the loss along the whole trajectory.

    $$\min_{\phi, \alpha} \mathbb{E}_\tau \, \frac1H \sum_{t=1}^H \Big(L_\tau(\theta_t)
      + \lambda \lVert \theta_t - \theta_{t-1} \rVert^2\Big)$$

    Where [`metaopt.fewshot.MAML`][] asks for a small loss at the end, this asks for one all the way, and the penalty
    for short ways. The leaves of the inner algorithm ($\alpha$) are trained, too: its rates, or all the weights of a
    learned rule.

    **Arguments:**

    - `inner`: the algorithm; by default gradient descent with a rate for each parameter, 0.01 to begin with.
    - `length`: $H$.
    - `regularization`: $\lambda$.
    - `second_order`: whether derivatives flow through the inner gradients.
    - `tasks`: how many tasks make one meta-gradient.
    - `remat`: recompute inner steps in the backward pass instead of storing them, for long inner loops.
    - `batch_size`: how many tasks run side by side, by default all.

    **Raises:**

    - `ValueError`: if a number is below 1, or `regularization` is negative.
    """

    inner: AbstractAlgorithm[Any, Any, Any] | None = None
    length: int = eqx.field(static=True, default=20)
    regularization: float = eqx.field(static=True, default=1e-4)
    second_order: bool = eqx.field(static=True, default=True)
    tasks: int = eqx.field(static=True, default=25)
    remat: bool = eqx.field(static=True, default=False)
    batch_size: int | None = eqx.field(static=True, default=None)

    def __check_init__(self) -> None:
        NONNEGATIVE.check(regularization=self.regularization)
        check_counts(length=self.length, tasks=self.tasks, batch_size=self.batch_size)
        if self.regularization < 0:
            raise ValueError(f"`regularization` must not be negative, but {self.regularization} was given.")

    def setup(self, family: AbstractTaskFamily, *, key: PRNGKeyArray) -> Setup:
        initial = draw_initial(family, key=key)
        algorithm = PerParameterSGD.like(initial) if self.inner is None else self.inner
        problem = MetaProblem(
            family,
            MeanLoss(),
            ConstantHorizon(self.length),
            tasks=self.tasks,
            batch_size=self.batch_size,
            second_order=self.second_order,
            update_penalty=self.regularization,
        )
        return Setup(Learner(algorithm, initial), problem, Unrolled(remat=self.remat))
