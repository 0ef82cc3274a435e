"""Adam whose rate Celo's scheduler sets."""

from typing import Any, TypeVar

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray, Scalar

from ..._core import AbstractAlgorithm, AbstractLossReader
from ..._core._algorithm import ASSUMED_HORIZON
from ..._core.arrays._numbers import COUNT, DECAY, POSITIVE
from ..parts._adafactor_rule import clipped
from ..parts._common import (
    CellState,
    complement,
    correction,
    default_key,
    finish,
    init_tensors,
    log_complement,
    match_real,
    moving,
    positive_log,
    widen,
)
from ..parts._progress import Progress
from ..parts._scheduler import ScheduledState, Scheduler
from ._learnable_adam import Moments


P = TypeVar("P")


class CeloAdam(AbstractAlgorithm[ScheduledState, Any, Any], AbstractLossReader):
    r"""Adam with a learned schedule: Celo's scheduler around a rule that is not learned.

    $$\rho, h \leftarrow S(h, c_t), \qquad
      \theta \leftarrow \theta - \rho\, e^\alpha \frac{\hat m}{\epsilon + \sqrt{\hat v + 10^{-10}}}$$

    with bias-corrected averages $\hat m$, $\hat v$ of the gradient and its square. The scheduler $S$ sees the fraction
    of the steps that were taken and how the losses developed. It is to be told the losses (`value`), and how many steps
    there will be ([`metaopt.with_horizon`][], which the drivers call). Gradients are clipped to $\pm 1000$. Published
    weights are read by [`metaopt.l2o.load_published`][].

    The learned leaves are the scheduler's weights and its first memory, $\alpha$, and $\log(1 - \beta)$ of both decays.

    ??? cite "Reference"

        ```bibtex
        @article{moudgil2025celo,
          title={Celo: Training Versatile Learned Optimizers on a Compute Diet},
          author={Moudgil, Abhinav and Knyazev, Boris and Lajoie, Guillaume and Belilovsky, Eugene},
          journal={arXiv:2501.12670}, year={2025}
        }
        ```
    """

    scheduler: Scheduler
    progress: Progress
    log_rate: Float[Array, ""]
    first_decay: Float[Array, ""]
    second_decay: Float[Array, ""]
    epsilon: float = eqx.field(static=True)

    def __init__(
        self,
        rate: float = 1e-3,
        b1: float = 0.9,
        b2: float = 0.999,
        epsilon: float = 1e-8,
        *,
        scheduler_size: int = 64,
        horizon: int = ASSUMED_HORIZON,
        key: PRNGKeyArray | None = None,
    ):
        """**Arguments:**

        - `rate`: $e^\\alpha$, what the scheduler's factor multiplies. Untrained, that is about a tenth.
        - `b1`, `b2`: decays of the averages.
        - `epsilon`: keeps steps finite.
        - `scheduler_size`: units of the scheduler.
        - `horizon`: how many steps there will be.
        - `key`: draws the weights; the same weights each time if it is left out.
        """
        POSITIVE.check(rate=rate, epsilon=epsilon)
        DECAY.check(b1=b1, b2=b2)
        COUNT.check(scheduler_size=scheduler_size)
        if not epsilon > 0:
            raise ValueError(f"`epsilon` must be positive, but {epsilon} was given.")
        self.progress = Progress(horizon)
        self.scheduler = Scheduler.create(self.progress.size, scheduler_size, key=default_key(key))
        self.log_rate = positive_log(rate, "rate")
        self.first_decay = log_complement(b1, "b1")
        self.second_decay = log_complement(b2, "b2")
        self.epsilon = epsilon

    @property
    def without_value(self) -> str:
        return "takes all losses to be the same"

    def init(self, params: Any, *, key: PRNGKeyArray | None = None) -> ScheduledState:
        del key
        cells = init_tensors(lambda p: Moments(jnp.zeros_like(p), jnp.zeros_like(p)), params)
        losses = self.progress.init(self.scheduler.dtype)
        return ScheduledState(cells.count, cells.tensors, cells.started, losses, self.scheduler.first_memory)

    def step(
        self, state: ScheduledState, params: P, grads: Any, *, value: Scalar | None = None
    ) -> tuple[ScheduledState, P]:
        matched = match_real(params, grads)
        losses, features = self.progress.observe(state.losses, state.count, value)
        memory, factor = self.scheduler.alone(state.memory, features)
        rate = factor * jnp.exp(self.log_rate)
        tensors, new = [], []
        for leaf, old in zip(matched.leaves, matched.pick(state.tensors), strict=True):
            param, grad = widen(leaf)
            grad = clipped(grad)
            fresh_first, fresh_second = complement(self.first_decay, param), complement(self.second_decay, param)
            first = old.first + fresh_first * (grad - old.first)
            second = old.second + fresh_second * (jnp.square(grad) - old.second)
            root = jnp.sqrt(second * correction(fresh_second, state.count) + 1e-10)
            step = first * correction(fresh_first, state.count) / (self.epsilon + root)
            tensors.append(Moments(first, second))
            new.append(param - rate.astype(param.dtype) * step)
        cells = CellState(state.count, state.tensors, state.started)
        cells, params = finish(cells, matched, moving(cells, matched), tensors, new)
        return ScheduledState(cells.count, cells.tensors, cells.started, losses, memory), params
