"""Celo."""

from collections.abc import Sequence
from typing import Any, TypeVar

import equinox as eqx
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Float, PRNGKeyArray, Scalar

from ..._core import AbstractAlgorithm, AbstractLossReader
from ..._core._algorithm import ASSUMED_HORIZON
from ..._core.arrays._numbers import COUNT, NONNEGATIVE, WHOLE
from ...backend import AbstractBackend, Network, automatic
from ..parts._adafactor import Averager, Averages
from ..parts._adafactor_rule import OUTPUTS, POINTWISE, AdafactorRule, clipped, inputs
from ..parts._common import CellState, default_key, finish, init_tensors, match_real, moving, widen
from ..parts._progress import Losses, Progress
from ..parts._scheduler import ScheduledState, Scheduler


P = TypeVar("P")


class Celo(AbstractAlgorithm[ScheduledState, Any, Any], AbstractLossReader):
    r"""A small network per parameter whose steps a recurrent network schedules.

    $$\rho, h \leftarrow S(h, c_t), \qquad
      \theta \leftarrow \theta - \rho \lambda_d\, \sqrt{\overline{\theta^2} + 10^{-9}}\; d \exp(\lambda_e e), \qquad
      (d, e) = N(f(\theta, g, m, v, r, c))$$

    The features $f$ are those of [`metaopt.l2o.AdafacMLP`][], with $\mathrm{clip}(g, \pm 0.1)$ and $g / \sqrt v$; the
    scheduler $S$ sees the fraction of the steps that were taken and how the losses developed. It is to be told the
    losses (`value`), and how many steps there will be ([`metaopt.with_horizon`][], which the drivers call). Gradients
    are clipped to $\pm 1000$.

    It is learned in two phases. In the first there is no scheduler, $\rho = 1$, and $N$ is learned; in the second it is
    the scheduler that is learned. Published weights are read by [`metaopt.l2o.load_published`][]. The published
    scheduler runs once per tensor; since it sees the same for all of them, here it runs once.

    The learned leaves are the weights of both networks, the scheduler's first memory, $\log(1 - \beta)$ of all decays,
    $\lambda_d$ and $\lambda_e$.

    ??? cite "Reference"

        ```bibtex
        @article{moudgil2025celo,
          title={Celo: Training Versatile Learned Optimizers on a Compute Diet},
          author={Moudgil, Abhinav and Knyazev, Boris and Lajoie, Guillaume and Belilovsky, Eugene},
          journal={arXiv:2501.12670}, year={2025}
        }
        ```
    """

    network: Network
    scheduler: Scheduler
    progress: Progress
    rule: AdafactorRule
    backend: AbstractBackend
    phase: int = eqx.field(static=True)

    def __init__(
        self,
        hidden_size: int = 4,
        hidden_layers: int = 2,
        *,
        scheduler_size: int = 64,
        phase: int = 2,
        momentum_decays: Sequence[float] = (0.9, 0.99, 0.999),
        second_decay: float = 0.999,
        factored_decays: Sequence[float] = (0.9, 0.99, 0.999),
        direction_scale: float = 1e-3,
        magnitude_scale: float = 1e-3,
        horizon: int = ASSUMED_HORIZON,
        backend: AbstractBackend | None = None,
        key: PRNGKeyArray | None = None,
    ):
        """**Arguments:**

        - `hidden_size`, `hidden_layers`: of the network per parameter.
        - `scheduler_size`: units of the scheduler.
        - `phase`: 1 without the scheduler, 2 with it.
        - `momentum_decays`: of the averages of the gradient.
        - `second_decay`: of the average of its square.
        - `factored_decays`: of the averages over rows and columns; as many as `momentum_decays`.
        - `direction_scale`, `magnitude_scale`: $\\lambda_d$ and $\\lambda_e$.
        - `horizon`: how many steps there will be.
        - `backend`: computes the step; by default what [`metaopt.backend.automatic`][] chooses.
        - `key`: draws the weights; the same weights each time if it is left out.

        **Raises:**

        - `ValueError`: if the phase is not 1 or 2, or a number is not possible.
        """
        NONNEGATIVE.check(direction_scale=direction_scale, magnitude_scale=magnitude_scale)
        COUNT.check(hidden_size=hidden_size, scheduler_size=scheduler_size)
        WHOLE.check(hidden_layers=hidden_layers)
        if phase not in (1, 2):
            raise ValueError(f"`phase` must be 1 (without the scheduler) or 2 (with it), but {phase} was given.")
        averager = Averager.create(momentum_decays, second_decay, factored_decays)
        keys = jr.split(default_key(key))
        sizes = [inputs(averager.pairs), *[hidden_size] * hidden_layers, OUTPUTS]
        self.network = Network.create(sizes, key=keys[0])
        self.progress = Progress(horizon)
        self.scheduler = Scheduler.create(self.progress.size, scheduler_size, key=keys[1])
        self.rule = AdafactorRule(averager, direction_scale, magnitude_scale)
        self.backend = automatic() if backend is None else backend
        self.phase = phase

    @property
    def without_value(self) -> str:
        return "takes all losses to be the same"

    def init(self, params: Any, *, key: PRNGKeyArray | None = None) -> ScheduledState:
        del key
        cells = init_tensors(self.rule.averager.init, params)
        losses = self.progress.init(self.scheduler.dtype)
        return ScheduledState(cells.count, cells.tensors, cells.started, losses, self.scheduler.first_memory)

    def step(
        self, state: ScheduledState, params: P, grads: Any, *, value: Scalar | None = None
    ) -> tuple[ScheduledState, P]:
        matched = match_real(params, grads)
        losses, memory, rate = self._schedule(state, value)
        cells = CellState(state.count, state.tensors, state.started)
        moves = moving(cells, matched)
        readings, tensors = [], []
        for leaf, move, old in zip(matched.leaves, moves, matched.pick(state.tensors), strict=True):
            param, grad = widen(leaf)
            tensor, reading = self.rule.tensor(param, clipped(grad), old, rate, move, leaf.path)
            tensors.append(tensor)
            readings.append(reading)
        context = jnp.zeros(0, self.scheduler.dtype)
        updated = self.backend.network_update(POINTWISE, self.network, context, tensors)
        new = [Averages(elements, r.rows, r.cols) for r, (elements, _) in zip(readings, updated, strict=True)]
        cells, params = finish(cells, matched, moves, new, [param for _, param in updated], done=True)
        return ScheduledState(cells.count, cells.tensors, cells.started, losses, memory), params

    def _schedule(
        self, state: ScheduledState, value: Scalar | None
    ) -> tuple[Losses, Float[Array, "2 hidden"], Float[Array, ""]]:
        losses, features = self.progress.observe(state.losses, state.count, value)
        if self.phase == 1:
            return losses, state.memory, jnp.ones((), self.scheduler.dtype)
        return losses, *self.scheduler.alone(state.memory, features)
