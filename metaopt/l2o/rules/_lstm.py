"""The coordinatewise LSTM."""

from collections.abc import Sequence
from typing import Any, NamedTuple, TypeVar

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray, PyTree, Scalar

from ..._core import AbstractAlgorithm
from ..._core.arrays._numbers import COUNT, POSITIVE
from ...backend import AbstractBackend, Tensor, Updated, automatic
from ..base import AbstractClock, AbstractHead
from ..parts._common import CellState, default_key, finish, init_tensors, match_real, moving, widen
from ..parts._linear_head import LinearHead
from ..parts._recurrent import Recurrent, apply


P = TypeVar("P")


class _Memory(NamedTuple):
    hidden: Float[Array, "layers 2 units *p"]
    head: PyTree


class _Operands(eqx.Module):
    grad: Float[Array, "*p"]
    head: PyTree


def preprocess(grad: Float[Array, "*p"], p: float) -> list[Float[Array, "*p"]]:
    r"""The logarithm and the sign of a gradient, on comparable scales.

    $$\left(\frac{\log |g|}{p}, \mathrm{sgn}\, g\right) \text{ if } |g| \ge e^{-p}, \qquad (-1, e^p g) \text{ else}$$
    """
    size = jnp.abs(grad)
    large = size >= jnp.exp(-jnp.asarray(p, grad.dtype))
    log = jnp.log(jnp.where(large, size, 1)) / p
    return [jnp.where(large, log, -1), jnp.where(large, jnp.sign(grad), jnp.exp(jnp.asarray(p, grad.dtype)) * grad)]


class LSTM(AbstractAlgorithm[CellState, Any, Any]):
    r"""A recurrent network that reads the gradient of each parameter on its own.

    $$(h, o) \leftarrow \mathrm{LSTM}(h, \mathrm{pre}(g)), \qquad \theta \leftarrow \mathrm{head}(\theta, o)$$

    with one memory $h$ per parameter and the same weights for all of them. The preprocessing `pre` gives the
    logarithm of the magnitude and the sign. With [`metaopt.l2o.AdamHead`][] the network also sees the normalized
    averages of the gradient, and with a clock it sees the time.

    ??? cite "Reference"

        ```bibtex
        @inproceedings{andrychowicz2016learning,
          title={Learning to learn by gradient descent by gradient descent},
          author={Andrychowicz, Marcin and Denil, Misha and G{\'o}mez, Sergio and Hoffman, Matthew W. and
                  Pfau, David and Schaul, Tom and Shillingford, Brendan and de Freitas, Nando},
          booktitle={NeurIPS}, year={2016}
        }
        ```
    """

    network: Recurrent
    head: AbstractHead
    clock: AbstractClock | None
    backend: AbstractBackend
    scale: float = eqx.field(static=True)

    def __init__(
        self,
        hidden_size: int = 20,
        hidden_layers: int = 2,
        *,
        scale: float = 10.0,
        head: AbstractHead | None = None,
        clock: AbstractClock | None = None,
        backend: AbstractBackend | None = None,
        key: PRNGKeyArray | None = None,
    ):
        """**Arguments:**

        - `hidden_size`, `hidden_layers`: of the network.
        - `scale`: $p$ of the preprocessing; gradients smaller than $e^{-p}$ count as small.
        - `head`: how the outputs become a step. The published one and the default is
            [`metaopt.l2o.LinearHead`][] with scale 0.1.
        - `clock`: features of time; none by default, as published.
        - `backend`: computes the step; by default what [`metaopt.backend.automatic`][] chooses.
        - `key`: draws the weights; the same weights each time if it is left out.
        """
        COUNT.check(hidden_size=hidden_size, hidden_layers=hidden_layers)
        POSITIVE.check(scale=scale)
        self.head = LinearHead() if head is None else head
        self.clock = clock
        inputs = 2 + self.head.signal_count + (0 if clock is None else clock.size)
        self.network = Recurrent.create(
            inputs,
            hidden_size,
            hidden_layers,
            self.head.outputs,
            output_scale=self.head.output_scale,
            key=default_key(key),
        )
        self.backend = automatic() if backend is None else backend
        self.scale = scale

    def init(self, params: Any, *, key: PRNGKeyArray | None = None) -> CellState:
        del key
        return init_tensors(lambda p: _Memory(self.network.init(p), self.head.init(p)), params)

    def step(self, state: CellState, params: P, grads: Any, *, value: Scalar | None = None) -> tuple[CellState, P]:
        del value
        matched = match_real(params, grads)
        dtype = self.network.readout.bias.dtype
        context = jnp.zeros(0, dtype) if self.clock is None else self.clock(state.count, dtype)
        tensors = []
        for leaf, old in zip(matched.leaves, matched.pick(state.tensors), strict=True):
            param, grad = widen(leaf)
            tensors.append(Tensor(param, old, _Operands(grad, self.head.prepare(param, state.count)), leaf.path))
        updated = self.backend.elementwise_update(self._update, (self.network, context), tensors)
        moves = moving(state, matched)
        return finish(state, matched, moves, [new for new, _ in updated], [param for _, param in updated])

    def _update(self, shared: tuple[Recurrent, Float[Array, " context"]], tensors: Sequence[Tensor]) -> list[Updated]:
        network, context = shared
        heads = [self.head.observe(t.state.head, t.operands.head, t.operands.grad) for t in tensors]
        features = [
            preprocess(t.operands.grad, self.scale) + [jnp.clip(s, -5, 5) for s in self.head.signals(seen)]
            for t, (_, seen) in zip(tensors, heads, strict=True)
        ]
        hidden, outputs = apply(network, [t.state.hidden for t in tensors], features, context)
        return [
            Updated(_Memory(h, state), self.head.finish(seen, t.param, output))
            for t, h, (state, seen), output in zip(tensors, hidden, heads, outputs, strict=True)
        ]
