"""The per-parameter MLP with Adafactor features."""

import functools as ft
from collections.abc import Sequence
from typing import Any, NamedTuple, TypeVar

import equinox as eqx
import jax
from jaxtyping import Array, Float, PRNGKeyArray, PyTree, Scalar

from ..._core import AbstractAlgorithm
from ..._core.arrays._numbers import COUNT, WHOLE
from ...backend import AbstractBackend, Feature, Network, Pointwise, Tensor, automatic
from ..base import AbstractClock, AbstractHead
from ..parts._adafactor import Averager, Averages, Elements, Reading, feature_groups, observe
from ..parts._clocks import TanhClock
from ..parts._common import (
    CellState,
    HeldOperands,
    default_key,
    finish,
    held,
    init_tensors,
    match_real,
    moving,
    widen,
)
from ..parts._plain_head import PlainHead


P = TypeVar("P")


class _Accumulators(NamedTuple):
    averages: Averages
    head: PyTree


class _Elements(eqx.Module):
    """What is remembered of each element."""

    averages: Elements
    head: PyTree


class _Operands(eqx.Module):
    reading: Reading
    head: PyTree


class _Seen(eqx.Module):
    param: Float[Array, "*p"]
    elements: Elements
    operands: _Operands
    head: PyTree


def _features(x: _Seen) -> list[Feature]:
    """The table of features: what the network sees of a parameter, each divided by its root mean square."""
    groups = feature_groups(x.param, x.elements, x.operands.reading, vector_factor=lambda r: jax.lax.rsqrt(r + 1e-6))
    return [
        groups.grad,
        groups.param,
        *groups.momenta,
        groups.second,
        *groups.normalized,
        groups.root,
        *groups.scaled,
        *groups.factored,
    ]


@ft.cache
def _pointwise(head: type[AbstractHead]) -> Pointwise:
    def observe_all(param: Any, state: _Elements, x: _Operands) -> tuple[_Elements, _Seen]:
        averages = observe(state.averages, x.reading)
        head_state, head_seen = head.observe(state.head, x.head, x.reading.grad)
        return _Elements(averages, head_state), _Seen(param, averages, x, head_seen)

    def features(x: _Seen) -> list[Feature]:
        return _features(x) + [Feature(signal) for signal in head.signals(x.head)]

    def finish_step(x: _Seen, outputs: Sequence[Any]) -> Array:
        return head.finish(x.head, x.param, outputs)

    return Pointwise(observe_all, features, finish_step)


class AdafacMLP(AbstractAlgorithm[CellState, Any, Any]):
    r"""A small network that sees 39 features of each parameter, among them Adafactor's (`small_fc_lopt`).

    With averages $m_k$ of the gradient, $v$ of its square, and $r_k$, $c_k$ of its square over the columns and over
    the rows,

    $$\theta \leftarrow \mathrm{head}(\theta, N(f(\theta, g, m, v, r, c), t))$$

    where the features $f$ are $g$, $\theta$, $m_k$, $v$, $m_k / \sqrt v$, $1 / \sqrt v$, $g R_k C_k$, $r_k$, $c_k$,
    $1 / \sqrt{r_k}$, $1 / \sqrt{c_k}$ and $m_k R_k C_k$, each divided by its root mean square over the tensor, with
    Adafactor's factors $R_k = (r_k / \overline{r_k})^{-1/2}$, $C_k = c_k^{-1/2}$. A tensor of more than two axes is
    factored along its two largest ones; one of less than two axes has its whole second moment in place of $r_k$ and
    $c_k$. The network also sees the time.

    The learned leaves are the network's weights, $\log(1 - \beta)$ of all decays, and those of the head.

    ??? cite "Reference"

        ```bibtex
        @article{metz2022practical,
          title={Practical tradeoffs between memory, compute, and performance in learned optimizers},
          author={Metz, Luke and Freeman, C. Daniel and Harrison, James and Maheswaranathan, Niru and
                  Sohl-Dickstein, Jascha},
          journal={arXiv:2203.11860}, year={2022}
        }
        ```
    """

    network: Network
    head: AbstractHead
    clock: AbstractClock
    momentum_decays: Float[Array, " k"]
    second_decay: Float[Array, ""]
    factored_decays: Float[Array, " k"]
    backend: AbstractBackend

    def __init__(
        self,
        hidden_size: int = 32,
        hidden_layers: int = 2,
        *,
        momentum_decays: Sequence[float] = (0.9, 0.99, 0.999),
        second_decay: float = 0.999,
        factored_decays: Sequence[float] = (0.9, 0.99, 0.999),
        head: AbstractHead | None = None,
        clock: AbstractClock | None = None,
        backend: AbstractBackend | None = None,
        key: PRNGKeyArray | None = None,
    ):
        """**Arguments:**

        - `hidden_size`, `hidden_layers`: of the network.
        - `momentum_decays`: of the averages of the gradient.
        - `second_decay`: of the average of its square.
        - `factored_decays`: of the averages over rows and columns; as many as `momentum_decays`.
        - `head`: how the outputs become a step. [`metaopt.l2o.PlainHead`][] is the published one and the default.
        - `clock`: the features of time. [`metaopt.l2o.TanhClock`][] is the published one and the default.
        - `backend`: computes the step; by default what [`metaopt.backend.automatic`][] chooses.
        - `key`: draws the weights; the same weights each time if it is left out.
        """
        COUNT.check(hidden_size=hidden_size)
        WHOLE.check(hidden_layers=hidden_layers)
        averager = Averager.create(momentum_decays, second_decay, factored_decays)
        self.momentum_decays = averager.momentum_decays
        self.second_decay = averager.second_decay
        self.factored_decays = averager.factored_decays
        self.head = PlainHead() if head is None else head
        self.clock = TanhClock() if clock is None else clock
        inputs = 4 + 8 * len(momentum_decays) + self.head.signal_count + self.clock.size
        self.network = Network.create(
            [inputs, *[hidden_size] * hidden_layers, self.head.outputs],
            output_scale=self.head.output_scale,
            key=default_key(key),
        )
        self.backend = automatic() if backend is None else backend

    @property
    def _averager(self) -> Averager:
        return Averager(self.momentum_decays, self.second_decay, self.factored_decays)

    def init(self, params: Any, *, key: PRNGKeyArray | None = None) -> CellState:
        del key
        return init_tensors(lambda p: _Accumulators(self._averager.init(p), self.head.init(p)), params)

    def step(self, state: CellState, params: P, grads: Any, *, value: Scalar | None = None) -> tuple[CellState, P]:
        del value
        matched = match_real(params, grads)
        context = self.clock(state.count, self.network.layers[0].bias.dtype)
        moves = moving(state, matched)
        readings, tensors = [], []
        for leaf, move, old in zip(matched.leaves, moves, matched.pick(state.tensors), strict=True):
            param, grad = widen(leaf)
            reading = self._averager.read(old.averages, grad)
            readings.append(reading)
            elements = _Elements(old.averages.elements, old.head)
            operands = _Operands(reading, self.head.prepare(param, state.count))
            tensors.append(Tensor(param, elements, HeldOperands(operands, move.astype(param.dtype)), leaf.path))
        updated = self.backend.network_update(held(_pointwise(type(self.head))), self.network, context, tensors)
        new = [
            _Accumulators(Averages(elements.averages, reading.rows, reading.cols), elements.head)
            for reading, (elements, _) in zip(readings, updated, strict=True)
        ]
        return finish(state, matched, moves, new, [param for _, param in updated], done=True)
