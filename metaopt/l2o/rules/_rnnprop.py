"""RNNProp."""

from collections.abc import Sequence
from typing import Any, NamedTuple, TypeVar

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Float, PRNGKeyArray, PyTree, Scalar

from ..._core import AbstractAlgorithm
from ..._core.arrays._numbers import COUNT, DECAY, POSITIVE
from ...backend import AbstractBackend, Layer, Tensor, Updated, automatic
from ..base import AbstractClock, AbstractHead
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
    widen,
)
from ..parts._linear_head import LinearHead
from ..parts._recurrent import Recurrent, apply
from ._learnable_adam import safe_sqrt


P = TypeVar("P")


class _Memory(NamedTuple):
    first: Float[Array, "*p"]
    second: Float[Array, "*p"]
    hidden: Float[Array, "layers 2 units *p"]
    head: PyTree


class _Operands(eqx.Module):
    grad: Float[Array, "*p"]
    fresh: tuple[Float[Array, ""], Float[Array, ""]]
    corrections: tuple[Float[Array, ""], Float[Array, ""]]
    head: PyTree


class RNNProp(AbstractAlgorithm[CellState, Any, Any]):
    r"""A recurrent network that reads what Adam and RMSprop would do, per parameter.

    $$x = \left(\frac{\hat m}{\sqrt{\hat v} + \epsilon}, \frac{g}{\sqrt{\hat v} + \epsilon}\right), \qquad
      (h, o) \leftarrow \mathrm{LSTM}(h, \mathrm{elu}(A x + a)), \qquad \theta \leftarrow \theta + 0.1 \tanh o$$

    with bias-corrected averages $\hat m$, $\hat v$ of the gradient and its square. Inputs and steps are bounded, so
    what is learned depends little on the scale of the objective. With another head, its normalized averages are
    further inputs; with a clock the time is, too.

    ??? cite "Reference"

        ```bibtex
        @inproceedings{lv2017learning,
          title={Learning Gradient Descent: Better Generalization and Longer Horizons},
          author={Lv, Kaifeng and Jiang, Shunhua and Li, Jian},
          booktitle={ICML}, year={2017}
        }
        ```
    """

    reader: Layer
    network: Recurrent
    head: AbstractHead
    clock: AbstractClock | None
    first_decay: Float[Array, ""]
    second_decay: Float[Array, ""]
    backend: AbstractBackend
    epsilon: float = eqx.field(static=True)

    def __init__(
        self,
        hidden_size: int = 20,
        hidden_layers: int = 2,
        *,
        b1: float = 0.95,
        b2: float = 0.95,
        epsilon: float = 1e-8,
        head: AbstractHead | None = None,
        clock: AbstractClock | None = None,
        backend: AbstractBackend | None = None,
        key: PRNGKeyArray | None = None,
    ):
        """**Arguments:**

        - `hidden_size`, `hidden_layers`: of the network; the first is also the size of the layer before it.
        - `b1`, `b2`: initial decays of the averages.
        - `epsilon`: keeps the inputs finite.
        - `head`: how the outputs become a step. The published one and the default is a bounded
            [`metaopt.l2o.LinearHead`][] with scale 0.1.
        - `clock`: features of time; none by default, as published.
        - `backend`: computes the step; by default what [`metaopt.backend.automatic`][] chooses.
        - `key`: draws the weights; the same weights each time if it is left out.
        """
        COUNT.check(hidden_size=hidden_size, hidden_layers=hidden_layers)
        DECAY.check(b1=b1, b2=b2)
        POSITIVE.check(epsilon=epsilon)
        if not epsilon > 0:
            raise ValueError(f"`epsilon` must be positive, but {epsilon} was given.")
        read, rest = jr.split(default_key(key))
        self.head = LinearHead(bounded=True) if head is None else head
        self.clock = clock
        self.reader = Layer.create(hidden_size, 2 + self.head.signal_count, key=read)
        self.network = Recurrent.create(
            hidden_size + (0 if clock is None else clock.size),
            hidden_size,
            hidden_layers,
            self.head.outputs,
            output_scale=self.head.output_scale,
            key=rest,
        )
        self.first_decay = log_complement(b1, "b1")
        self.second_decay = log_complement(b2, "b2")
        self.backend = automatic() if backend is None else backend
        self.epsilon = epsilon

    def init(self, params: Any, *, key: PRNGKeyArray | None = None) -> CellState:
        del key

        def one(param: Float[Array, "*p"]) -> _Memory:
            zeros = jnp.zeros_like(param)
            return _Memory(zeros, zeros, self.network.init(param), self.head.init(param))

        return init_tensors(one, params)

    def step(self, state: CellState, params: P, grads: Any, *, value: Scalar | None = None) -> tuple[CellState, P]:
        del value
        matched = match_real(params, grads)
        dtype = self.network.readout.bias.dtype
        context = jnp.zeros(0, dtype) if self.clock is None else self.clock(state.count, dtype)
        tensors = []
        for leaf, old in zip(matched.leaves, matched.pick(state.tensors), strict=True):
            param, grad = widen(leaf)
            fresh = (complement(self.first_decay, grad), complement(self.second_decay, grad))
            corrections = (correction(fresh[0], state.count), correction(fresh[1], state.count))
            operands = _Operands(grad, fresh, corrections, self.head.prepare(param, state.count))
            tensors.append(Tensor(param, old, operands, leaf.path))
        updated = self.backend.elementwise_update(self._update, (self.reader, self.network, context), tensors)
        moves = moving(state, matched)
        return finish(state, matched, moves, [new for new, _ in updated], [param for _, param in updated])

    def _update(
        self, shared: tuple[Layer, Recurrent, Float[Array, " context"]], tensors: Sequence[Tensor]
    ) -> list[Updated]:
        reader, network, context = shared
        heads, moments, features = [], [], []
        for tensor in tensors:
            old, x = tensor.state, tensor.operands
            head, seen = self.head.observe(old.head, x.head, x.grad)
            first = old.first + x.fresh[0] * (x.grad - old.first)
            second = old.second + x.fresh[1] * (jnp.square(x.grad) - old.second)
            root = safe_sqrt(second * x.corrections[1]) + self.epsilon
            adam = first * x.corrections[0] / root
            signals = [jnp.clip(signal, -5, 5) for signal in self.head.signals(seen)]
            heads.append((head, seen))
            moments.append((first, second))
            features.append(_read(reader, [adam, x.grad / root, *signals]))
        hidden, outputs = apply(network, [t.state.hidden for t in tensors], features, context)
        return [
            Updated(_Memory(first, second, h, head), self.head.finish(seen, t.param, output))
            for t, (first, second), h, (head, seen), output in zip(
                tensors, moments, hidden, heads, outputs, strict=True
            )
        ]


def _read(reader: Layer, features: list[Float[Array, "*p"]]) -> list[Float[Array, "*p"]]:
    x = jnp.stack(features)
    weight, bias = reader.weight.astype(x.dtype), reader.bias.astype(x.dtype)
    y = jax.nn.elu(weight @ x.reshape(x.shape[0], -1) + bias[:, None])
    return [unit.reshape(x.shape[1:]) for unit in y]
