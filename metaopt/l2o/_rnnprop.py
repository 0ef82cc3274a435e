"""RNNProp."""

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Float, PRNGKeyArray, PyTree, Scalar

from .._core import AbstractAlgorithm
from ..backend import Layer
from ._common import (
    CellState,
    complement,
    correction,
    default_key,
    finish,
    init_tensors,
    log_complement,
    match_real,
    widen,
)
from ._learnable_adam import safe_sqrt
from ._linear_head import LinearHead
from ._recurrent import Recurrent, apply
from .base import AbstractClock, AbstractHead


class _Memory(eqx.Module):
    first: Float[Array, "*p"]
    second: Float[Array, "*p"]
    hidden: Float[Array, "layers 2 units *p"]
    head: PyTree


class RNNProp(AbstractAlgorithm[CellState, PyTree, PyTree]):
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
        key: PRNGKeyArray | None = None,
    ):
        """**Arguments:**

        - `hidden_size`, `hidden_layers`: of the network; the first is also the size of the layer before it.
        - `b1`, `b2`: initial decays of the averages.
        - `epsilon`: keeps the inputs finite.
        - `head`: how the outputs become a step. The published one and the default is a bounded
            [`metaopt.l2o.LinearHead`][] with scale 0.1.
        - `clock`: features of time; none by default, as published.
        - `key`: draws the weights; the same weights each time if it is left out.
        """
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
        self.epsilon = epsilon

    def init(self, params: PyTree, *, key: PRNGKeyArray | None = None) -> CellState:
        del key

        def one(param: Float[Array, "*p"]) -> _Memory:
            zeros = jnp.zeros_like(param)
            return _Memory(zeros, zeros, self.network.init(param), self.head.init(param))

        return init_tensors(one, params)

    def step(
        self, state: CellState, params: PyTree, grads: PyTree, *, value: Scalar | None = None
    ) -> tuple[CellState, PyTree]:
        del value
        matched = match_real(params, grads)
        old = matched.pick(state.tensors)
        dtype = self.network.readout.bias.dtype
        context = jnp.zeros(0, dtype) if self.clock is None else self.clock(state.step, dtype)
        wide = [widen(leaf) for leaf in matched.leaves]
        heads = [
            self.head.prepare(memory.head, param, grad, state.step)
            for memory, (param, grad) in zip(old, wide, strict=True)
        ]
        moments, features = [], []
        for memory, head, (_, grad) in zip(old, heads, wide, strict=True):
            fresh_first, fresh_second = complement(self.first_decay, grad), complement(self.second_decay, grad)
            first = memory.first + fresh_first * (grad - memory.first)
            second = memory.second + fresh_second * (jnp.square(grad) - memory.second)
            root = safe_sqrt(second * correction(fresh_second, state.step)) + self.epsilon
            adam = first * correction(fresh_first, state.step) / root
            signals = [jnp.clip(signal, -5, 5) for signal in self.head.signals(head.operands)]
            moments.append((first, second))
            features.append(self._read([adam, grad / root, *signals]))
        hidden, outputs = apply(self.network, [memory.hidden for memory in old], features, context)
        tensors = [
            _Memory(first, second, h, head.state)
            for (first, second), h, head in zip(moments, hidden, heads, strict=True)
        ]
        new = [
            self.head.finish(head.operands, param, output)
            for head, (param, _), output in zip(heads, wide, outputs, strict=True)
        ]
        return finish(state, matched, tensors, new)

    def _read(self, features: list[Float[Array, "*p"]]) -> list[Float[Array, "*p"]]:
        x = jnp.stack(features)
        weight, bias = self.reader.weight.astype(x.dtype), self.reader.bias.astype(x.dtype)
        y = jax.nn.elu(weight @ x.reshape(x.shape[0], -1) + bias[:, None])
        return [unit.reshape(x.shape[1:]) for unit in y]
