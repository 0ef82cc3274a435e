"""VeLO."""

from collections.abc import Sequence
from typing import Any, NamedTuple, TypeVar

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import jax.tree_util as jtu
from jaxtyping import Array, Float, Int, PRNGKeyArray, PyTree, Scalar

from ..._core import AbstractAlgorithm, AbstractLossReader
from ..._core._algorithm import ASSUMED_HORIZON
from ..._core.arrays._numbers import COUNT, NONNEGATIVE, WHOLE, number
from ...backend import AbstractBackend, Layer, Network, automatic
from ..parts._adafactor import Averager, Averages
from ..parts._adafactor_rule import OUTPUTS, POINTWISE, AdafactorRule, clipped, inputs
from ..parts._common import CellState, default_key, finish, init_tensors, match_real, moving, widen
from ..parts._progress import Losses, Progress
from ..parts._scheduler import Scheduler


P = TypeVar("P")

RANKS = 5


class _Tensor(NamedTuple):
    averages: Averages
    memory: Float[Array, "2 hidden"]


class _State(NamedTuple):
    count: Int[Array, ""]  # pyright: ignore[reportIncompatibleMethodOverride]
    tensors: PyTree
    started: PyTree
    losses: Losses


def statistics(param: Float[Array, "*p"], old: Averages) -> Float[Array, " features"]:
    """What the scheduler sees of a tensor: sizes of its averages relative to its own, and how many axes it has."""
    factor = jax.lax.rsqrt(jnp.maximum(jnp.mean(jnp.square(param)), 1e-9))
    axes = tuple(range(1, param.ndim + 1))
    momenta, second = factor * old.elements.momenta, factor * old.elements.second
    means = jnp.mean(momenta, axis=axes, keepdims=True)
    rank = sum(n > 1 for n in param.shape)
    return jnp.concatenate(
        [
            _log_size(jnp.mean(second))[None],
            jnp.asarray([float(rank == r) for r in range(RANKS)], param.dtype),
            _log_size(jnp.mean(jnp.square(momenta - means), axis=axes)),
            # About the means of the momenta: so it was published, and so the weights know it.
            _log_size(jnp.mean(jnp.square(second[None] - means), axis=axes)),
        ]
    )


def _log_size(x: Float[Array, "*k"]) -> Float[Array, "*k"]:
    return jnp.clip(jnp.log(1e-8 + jnp.abs(10 * x)), -5, 5) / 2


class VeLO(AbstractAlgorithm[_State, Any, Any], AbstractLossReader):
    r"""A small network per parameter, which a recurrent network makes anew for each tensor and step.

    $$\rho_i, \kappa_i, h_i \leftarrow S(h_i, c_t, s_i), \qquad
      \phi_i = \frac{\mu}{B} \sum_{b = 1}^B \kappa_{ib} \phi_b, \qquad
      \theta_i \leftarrow \theta_i - \rho_i \lambda_d\, \sqrt{\overline{\theta_i^2} + 10^{-9}}\;
      d \exp(\lambda_e e), \qquad (d, e) = N_{\phi_i}(f(\theta_i, g_i, m_i, v_i, r_i, c_i))$$

    for each tensor $i$: its network is a mixture of the $B$ networks of a bank, and its rate $\rho_i$ of any sign. The
    features $f$ are those of [`metaopt.l2o.AdafacMLP`][], with $\mathrm{clip}(g, \pm 0.1)$ and $g / \sqrt v$. The
    scheduler $S$ sees the fraction of the steps that were taken, how the losses developed, and statistics $s_i$ of the
    tensor; tensors hear of each other by a maximum over all. It is to be told the losses (`value`), and how many steps
    there will be ([`metaopt.with_horizon`][], which the drivers call). Gradients are clipped to $\pm 1000$. This is
    `HyperV2` of the `learned_optimization` library, without its known bugs; [`metaopt.l2o.load_published`][] reads
    published weights.

    The learned leaves are the weights of the bank and of the scheduler, its first memory, $\mu$, $\log(1 - \beta)$ of
    all decays, $\lambda_d$ and $\lambda_e$.

    ??? cite "Reference"

        ```bibtex
        @article{metz2022velo,
          title={{VeLO}: Training Versatile Learned Optimizers by Scaling Up},
          author={Metz, Luke and Harrison, James and Freeman, C. Daniel and Merchant, Amil and Beyer, Lucas and
                  Bradbury, James and Agrawal, Naman and Poole, Ben and Mordatch, Igor and Roberts, Adam and
                  Sohl-Dickstein, Jascha},
          journal={arXiv:2211.09760}, year={2022}
        }
        ```
    """

    bank: Network
    scheduler: Scheduler
    controls: Layer
    progress: Progress
    rule: AdafactorRule
    mix_scale: Float[Array, ""]
    backend: AbstractBackend

    def __init__(
        self,
        hidden_size: int = 4,
        hidden_layers: int = 2,
        *,
        scheduler_size: int = 64,
        bank_size: int = 32,
        mix_scale: float = 1.0,
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

        - `hidden_size`, `hidden_layers`: of the networks per parameter.
        - `scheduler_size`: units of the scheduler; 512 as published.
        - `bank_size`: $B$, how many networks are mixed; 256 as published.
        - `mix_scale`: $\\mu$; 100 as published. With 1, small ones are easier to train.
        - `momentum_decays`: of the averages of the gradient.
        - `second_decay`: of the average of its square.
        - `factored_decays`: of the averages over rows and columns; as many as `momentum_decays`.
        - `direction_scale`, `magnitude_scale`: $\\lambda_d$ and $\\lambda_e$.
        - `horizon`: how many steps there will be.
        - `backend`: computes the step; by default what [`metaopt.backend.automatic`][] chooses.
        - `key`: draws the weights; the same weights each time if it is left out.

        **Raises:**

        - `ValueError`: if the bank is empty, or a number is not possible.
        """
        NONNEGATIVE.check(direction_scale=direction_scale, magnitude_scale=magnitude_scale, mix_scale=mix_scale)
        COUNT.check(hidden_size=hidden_size, scheduler_size=scheduler_size, bank_size=bank_size)
        WHOLE.check(hidden_layers=hidden_layers)
        averager = Averager.create(momentum_decays, second_decay, factored_decays)
        keys = jr.split(default_key(key), 3)
        sizes = [inputs(averager.pairs), *[hidden_size] * hidden_layers, OUTPUTS]
        self.bank = eqx.filter_vmap(lambda k: Network.create(sizes, key=k))(jr.split(keys[0], bank_size))
        self.progress = Progress(horizon)
        features = self.progress.size + 1 + RANKS + 2 * averager.pairs
        self.scheduler = Scheduler.create(features, scheduler_size, key=keys[1])
        self.controls = Layer.create(bank_size, scheduler_size, key=keys[2])
        self.rule = AdafactorRule(averager, direction_scale, magnitude_scale)
        self.mix_scale = number(mix_scale)
        self.backend = automatic() if backend is None else backend

    @property
    def without_value(self) -> str:
        return "takes all losses to be the same"

    def init(self, params: Any, *, key: PRNGKeyArray | None = None) -> _State:
        del key
        cells = init_tensors(lambda p: _Tensor(self.rule.averager.init(p), self.scheduler.first_memory), params)
        return _State(cells.count, cells.tensors, cells.started, self.progress.init(self.scheduler.dtype))

    def step(self, state: _State, params: P, grads: Any, *, value: Scalar | None = None) -> tuple[_State, P]:
        matched = match_real(params, grads)
        losses, progress = self.progress.observe(state.losses, state.count, value)
        olds = matched.pick(state.tensors)
        wide = [widen(leaf) for leaf in matched.leaves]
        scheduled = self._schedule([param for param, _ in wide], olds, progress)
        context = jnp.zeros(0, self.scheduler.dtype)
        before = CellState(state.count, state.tensors, state.started)
        moves = moving(before, matched)
        tensors, new = [], []
        for leaf, move, (param, grad), old, (memory, network, rate) in zip(
            matched.leaves, moves, wide, olds, scheduled, strict=True
        ):
            tensor, reading = self.rule.tensor(param, clipped(grad), old.averages, rate, move, leaf.path)
            ((elements, moved),) = self.backend.network_update(POINTWISE, network, context, [tensor])
            tensors.append(_Tensor(Averages(elements, reading.rows, reading.cols), memory))
            new.append(moved)
        cells, params = finish(before, matched, moves, tensors, new, done=True)
        return _State(cells.count, cells.tensors, cells.started, losses), params

    def _schedule(
        self, params: Sequence[Array], olds: Sequence[_Tensor], progress: Float[Array, " features"]
    ) -> list[tuple[Float[Array, "2 hidden"], Network, Float[Array, ""]]]:
        """The memory, the network and the rate of each tensor. The scheduler sees all tensors as one batch, but not
        those without an element, which have no statistics."""
        seen = [index for index, param in enumerate(params) if param.size]
        idle = jtu.tree_map(lambda leaf: leaf[0], self.bank), jnp.zeros((), self.scheduler.dtype)
        scheduled = [(old.memory, *idle) for old in olds]
        if not seen:
            return scheduled
        dtype = self.scheduler.dtype
        x = [jnp.concatenate([progress, statistics(params[i], olds[i].averages).astype(dtype)]) for i in seen]
        memory = self.scheduler(jnp.stack([olds[i].memory for i in seen], axis=2), jnp.stack(x, axis=1))
        mixtures = self.controls(memory[0]) * (self.mix_scale / self.controls.bias.size)
        rates = self.scheduler.rate(memory[0])[0]
        for column, index in enumerate(seen):
            network = jtu.tree_map(lambda leaf, i=column: jnp.tensordot(mixtures[:, i], leaf, axes=1), self.bank)
            scheduled[index] = (memory[:, :, column], network, rates[column])
        return scheduled
