"""The per-parameter MLP."""

import functools as ft
from collections.abc import Sequence
from typing import Any, NamedTuple, TypeVar

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray, PyTree, Scalar

from ..._core import AbstractAlgorithm
from ..._core.arrays._numbers import COUNT, WHOLE
from ...backend import AbstractBackend, Feature, Network, Pointwise, Tensor, automatic, per_tensor
from ..base import AbstractClock, AbstractHead
from ..parts._clocks import TanhClock
from ..parts._common import (
    CellState,
    HeldOperands,
    complement,
    default_key,
    finish,
    held,
    init_tensors,
    log_complement,
    match_real,
    moving,
    widen,
)
from ..parts._plain_head import PlainHead


P = TypeVar("P")


class _Accumulators(NamedTuple):
    momenta: Float[Array, "k *p"]
    head: PyTree


class _Operands(eqx.Module):
    grad: Float[Array, "*p"]
    fresh: Float[Array, "k ..."]
    head: PyTree


class _Seen(eqx.Module):
    param: Float[Array, "*p"]
    grad: Float[Array, "*p"]
    momenta: Float[Array, "k *p"]
    head: PyTree


@ft.cache
def _pointwise(head: type[AbstractHead]) -> Pointwise:
    def observe(param: Any, state: _Accumulators, x: _Operands) -> tuple[_Accumulators, _Seen]:
        momenta = state.momenta + x.fresh * (x.grad[None] - state.momenta)
        head_state, head_seen = head.observe(state.head, x.head, x.grad)
        return _Accumulators(momenta, head_state), _Seen(param, x.grad, momenta, head_seen)

    def features(x: _Seen) -> list[Feature]:
        """The table of features: what the network sees of a parameter, each divided by its root mean square."""
        return [Feature(signal) for signal in (x.grad, x.param, *x.momenta, *head.signals(x.head))]

    def finish_step(x: _Seen, outputs: Sequence[Any]) -> Array:
        return head.finish(x.head, x.param, outputs)

    return Pointwise(observe, features, finish_step)


class MLP(AbstractAlgorithm[CellState, Any, Any]):
    r"""A small network that sees each parameter, its gradient, averages of that, and the time.

    $$m_k \leftarrow \beta_k m_k + (1 - \beta_k) g, \qquad
      \theta \leftarrow \mathrm{head}(\theta, N(g, \theta, m_1, \ldots, m_6, t))$$

    where $g$, $\theta$ and $m_k$ are each divided by their root mean square over the tensor.

    The learned leaves are the network's weights, $\log(1 - \beta_k)$, and those of the head.

    ??? cite "Reference"

        ```bibtex
        @inproceedings{metz2019understanding,
          title={Understanding and correcting pathologies in the training of learned optimizers},
          author={Metz, Luke and Maheswaranathan, Niru and Nixon, Jeremy and Freeman, C. Daniel and
                  Sohl-Dickstein, Jascha},
          booktitle={ICML}, year={2019}
        }
        ```
    """

    network: Network
    head: AbstractHead
    clock: AbstractClock
    momentum_decays: Float[Array, " k"]
    backend: AbstractBackend

    def __init__(
        self,
        hidden_size: int = 32,
        hidden_layers: int = 2,
        *,
        momentum_decays: Sequence[float] = (0.1, 0.5, 0.9, 0.99, 0.999, 0.9999),
        head: AbstractHead | None = None,
        clock: AbstractClock | None = None,
        backend: AbstractBackend | None = None,
        key: PRNGKeyArray | None = None,
    ):
        """**Arguments:**

        - `hidden_size`, `hidden_layers`: of the network.
        - `momentum_decays`: of the averages of the gradient.
        - `head`: how the outputs become a step. [`metaopt.l2o.PlainHead`][] is the published one and the default.
        - `clock`: the features of time. [`metaopt.l2o.TanhClock`][] is the published one and the default.
        - `backend`: computes the step; by default what [`metaopt.backend.automatic`][] chooses.
        - `key`: draws the weights; the same weights each time if it is left out.
        """
        COUNT.check(hidden_size=hidden_size)
        WHOLE.check(hidden_layers=hidden_layers)
        self.head = PlainHead() if head is None else head
        self.clock = TanhClock() if clock is None else clock
        inputs = 2 + len(momentum_decays) + self.head.signal_count + self.clock.size
        self.network = Network.create(
            [inputs, *[hidden_size] * hidden_layers, self.head.outputs],
            output_scale=self.head.output_scale,
            key=default_key(key),
        )
        self.momentum_decays = log_complement(momentum_decays, "momentum_decays")
        self.backend = automatic() if backend is None else backend

    def init(self, params: Any, *, key: PRNGKeyArray | None = None) -> CellState:
        del key
        k = self.momentum_decays.size

        def one(param: Float[Array, "*p"]) -> _Accumulators:
            return _Accumulators(jnp.zeros((k, *param.shape), param.dtype), self.head.init(param))

        return init_tensors(one, params)

    def step(self, state: CellState, params: P, grads: Any, *, value: Scalar | None = None) -> tuple[CellState, P]:
        del value
        matched = match_real(params, grads)
        moves = moving(state, matched)
        context = self.clock(state.count, self.network.layers[0].bias.dtype)
        fresh, tensors = self.momentum_decays, []
        for leaf, move, old in zip(matched.leaves, moves, matched.pick(state.tensors), strict=True):
            param, grad = widen(leaf)
            operands = _Operands(
                grad, per_tensor(complement(fresh, param), param.shape), self.head.prepare(param, state.count)
            )
            tensors.append(Tensor(param, old, HeldOperands(operands, move.astype(param.dtype)), leaf.path))
        updated = self.backend.network_update(held(_pointwise(type(self.head))), self.network, context, tensors)
        return finish(state, matched, moves, [new for new, _ in updated], [param for _, param in updated], done=True)
