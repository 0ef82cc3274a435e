"""The per-parameter MLP with Adafactor features."""

import functools as ft
from collections.abc import Sequence
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray, PyTree, Scalar

from .._core import AbstractAlgorithm
from ..backend import AbstractBackend, Feature, Network, Pointwise, Tensor, automatic, per_tensor
from ._clocks import TanhClock
from ._common import (
    CellState,
    average,
    complement,
    default_key,
    finish,
    init_tensors,
    log_complement,
    match_real,
    widen,
)
from ._plain_head import PlainHead
from .base import AbstractClock, AbstractHead


class _Accumulators(eqx.Module):
    """Averages of one tensor. The factored ones keep the axis that they are a mean over, with size 1; a tensor of
    less than two axes has the whole second moment in `rows`."""

    momenta: Float[Array, "k *p"]
    second: Float[Array, "*p"]
    rows: Float[Array, "f ..."]
    cols: Float[Array, "f ..."] | None
    head: PyTree


class _Elements(eqx.Module):
    """What is remembered of each element."""

    momenta: Float[Array, "k *p"]
    second: Float[Array, "*p"]
    head: PyTree


class _Operands(eqx.Module):
    grad: Float[Array, "*p"]
    rows: Float[Array, "f ..."]
    cols: Float[Array, "f ..."] | None
    row_factors: Float[Array, "f ..."]
    col_factors: Float[Array, "f ..."] | None
    fresh: Float[Array, "k ..."]
    fresh_second: Float[Array, ""]
    head: PyTree


class _Seen(eqx.Module):
    param: Float[Array, "*p"]
    elements: _Elements
    operands: _Operands
    head: PyTree


def _factored_axes(shape: tuple[int, ...]) -> tuple[int, int] | None:
    """The second largest and the largest axis, if there are two."""
    if len(shape) < 2:
        return None
    order = np.argsort(shape, kind="stable")
    return int(order[-2]), int(order[-1])


def _mean(x: Float[Array, "..."], axis: int) -> Float[Array, "..."]:
    """The mean along an axis, which is kept; zero if there is nothing along it."""
    return jnp.sum(x, axis=axis, keepdims=True) / max(x.shape[axis], 1)


def _root(x: Float[Array, "..."]) -> Float[Array, "..."]:
    return jax.lax.rsqrt(jnp.maximum(x, 1e-9))


def _features(x: _Seen) -> list[Feature]:
    """The table of features: what the network sees of a parameter, each divided by its root mean square."""
    grad, v, momenta = x.operands.grad, x.elements.second, list(x.elements.momenta)
    root, inverse = jax.lax.rsqrt(v + 1e-6), 1 / (v + 1e-6)
    rows = list(x.operands.rows)
    if x.operands.cols is None or x.operands.col_factors is None:
        cols = rows
        grad_factors = [_root(r + 1e-9) for r in rows]
        momentum_factors = [jax.lax.rsqrt(r + 1e-6) for r in rows]
    else:
        cols = list(x.operands.cols)
        grad_factors = [r * c for r, c in zip(x.operands.row_factors, x.operands.col_factors, strict=True)]
        momentum_factors = grad_factors
    return [
        Feature(grad),
        Feature(x.param),
        *[Feature(m) for m in momenta],
        Feature(v),
        *[Feature(m * root, m * m * inverse) for m in momenta],
        Feature(root, inverse),
        *[Feature(grad * f) for f in grad_factors],
        *[Feature(r) for r in rows],
        *[Feature(c) for c in cols],
        *[Feature(jax.lax.rsqrt(r + 1e-8), 1 / (r + 1e-8)) for r in rows],
        *[Feature(jax.lax.rsqrt(c + 1e-8), 1 / (c + 1e-8)) for c in cols],
        *[Feature(m * f) for m, f in zip(momenta, momentum_factors, strict=True)],
    ]


@ft.cache
def _pointwise(head: type[AbstractHead]) -> Pointwise:
    def observe(param: Any, state: _Elements, x: _Operands) -> tuple[_Elements, _Seen]:
        momenta = state.momenta + x.fresh * (x.grad[None] - state.momenta)
        second = state.second + x.fresh_second * (jnp.square(x.grad) - state.second)
        head_state, head_seen = head.observe(state.head, x.head, x.grad)
        new = _Elements(momenta, second, head_state)
        return new, _Seen(param, new, x, head_seen)

    def features(x: _Seen) -> list[Feature]:
        return _features(x) + [Feature(signal) for signal in head.signals(x.head)]

    def finish_step(x: _Seen, outputs: Sequence[Any]) -> Array:
        return head.finish(x.head, x.param, outputs)

    return Pointwise(observe, features, finish_step)


class AdafacMLP(AbstractAlgorithm[CellState, PyTree, PyTree]):
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
        if len(momentum_decays) != len(factored_decays):
            raise ValueError(
                f"`momentum_decays` and `factored_decays` are used in pairs, but {len(momentum_decays)} and "
                f"{len(factored_decays)} of them were given."
            )
        self.head = PlainHead() if head is None else head
        self.clock = TanhClock() if clock is None else clock
        inputs = 4 + 8 * len(momentum_decays) + self.head.signal_count + self.clock.size
        self.network = Network.create(
            [inputs, *[hidden_size] * hidden_layers, self.head.outputs],
            output_scale=self.head.output_scale,
            key=default_key(key),
        )
        self.momentum_decays = log_complement(momentum_decays, "momentum_decays")
        self.second_decay = log_complement(second_decay, "second_decay")
        self.factored_decays = log_complement(factored_decays, "factored_decays")
        self.backend = automatic() if backend is None else backend

    def init(self, params: PyTree, *, key: PRNGKeyArray | None = None) -> CellState:
        del key
        return init_tensors(self._init_one, params)

    def _init_one(self, param: Float[Array, "*p"]) -> _Accumulators:
        def zeros(k: int, summed: int | None = None) -> Array:
            shape = [1 if axis == summed else n for axis, n in enumerate(param.shape)]
            return jnp.zeros((k, *shape), param.dtype)

        axes, k = _factored_axes(param.shape), self.factored_decays.size
        row_axis, col_axis = (None, None) if axes is None else axes
        return _Accumulators(
            zeros(self.momentum_decays.size),
            jnp.zeros_like(param),
            zeros(k, col_axis),
            None if row_axis is None else zeros(k, row_axis),
            self.head.init(param),
        )

    def step(
        self, state: CellState, params: PyTree, grads: PyTree, *, value: Scalar | None = None
    ) -> tuple[CellState, PyTree]:
        del value
        matched = match_real(params, grads)
        context = self.clock(state.step, self.network.layers[0].bias.dtype)
        averages, tensors = [], []
        for leaf, old in zip(matched.leaves, matched.pick(state.tensors), strict=True):
            param, grad = widen(leaf)
            rows, cols, operands = self._observe(old, param, grad, state)
            averages.append((rows, cols))
            elements = _Elements(old.momenta, old.second, old.head)
            tensors.append(Tensor(param, elements, operands, leaf.path))
        updated = self.backend.network_update(_pointwise(type(self.head)), self.network, context, tensors)
        new = [
            _Accumulators(elements.momenta, elements.second, rows, cols, elements.head)
            for (rows, cols), (elements, _) in zip(averages, updated, strict=True)
        ]
        return finish(state, matched, new, [param for _, param in updated])

    def _observe(
        self, old: _Accumulators, param: Float[Array, "*p"], grad: Float[Array, "*p"], state: CellState
    ) -> tuple[Float[Array, "f ..."], Float[Array, "f ..."] | None, _Operands]:
        """Update the averages over rows and columns of one tensor."""
        weights = complement(self.factored_decays, param)
        axes = _factored_axes(param.shape)
        if axes is None or old.cols is None:
            rows, cols = average(weights, old.rows, jnp.square(grad) + 1e-30), old.cols
            row_factors, col_factors = rows, None
        else:
            row_axis, col_axis = axes
            # Two sums that each square what they read; one square for both would be written to memory.
            rows = average(weights, old.rows, _mean(jnp.square(grad), col_axis) + 1e-30)
            cols = average(weights, old.cols, _mean(jnp.square(jax.lax.optimization_barrier(grad)), row_axis) + 1e-30)
            row_factors = _root(rows / (_mean(rows, row_axis + 1) + 1e-9))
            col_factors = _root(cols)
        operands = _Operands(
            grad,
            rows,
            cols,
            row_factors,
            col_factors,
            per_tensor(complement(self.momentum_decays, param), param.shape),
            complement(self.second_decay, param),
            self.head.prepare(param, state.step),
        )
        return rows, cols, operands
