"""Celo2."""

import re
from collections.abc import Sequence
from typing import Any, TypeVar

import equinox as eqx
import jax.numpy as jnp
import jax.tree_util as jtu
from jaxtyping import Array, Float, PRNGKeyArray, Scalar

from ..._core import AbstractAlgorithm
from ..._core.arrays._numbers import COUNT, NONNEGATIVE, POSITIVE, WHOLE, number
from ..._core.arrays._trees import Leaf, compute_dtype, trainable
from ...backend import EPSILON, AbstractBackend, Feature, Layer, Network, Pointwise, Tensor, Updated, automatic
from ..parts._adafactor import Averager, Averages, Elements, Reading, feature_groups, observe
from ..parts._adafactor_rule import clipped, inputs, ordered
from ..parts._common import CellState, default_key, finish, match_real, moving, not_started, positive_log, widen
from ..parts._orthogonal import newton_schulz
from ..parts._plain_network import normalized, plain_network
from ._learnable_adam import LearnableAdam, Moments


# Added to mean squares before they are divided by; kernels add more, so features are made that much larger for them.


P = TypeVar("P")

SMALL = 1e-9
LARGER = (EPSILON / SMALL) ** 0.5


class _Seen(eqx.Module):
    param: Float[Array, "*p"]
    elements: Elements
    reading: Reading


def _observe(param: Any, state: Elements, x: Reading) -> tuple[Elements, _Seen]:
    new = observe(state, x)
    return new, _Seen(param, new, x)


def _features(x: _Seen) -> list[Feature]:
    """The table of features: what the network sees of a parameter, each divided by its root mean square. Without two
    axes, there are none of rows and columns."""
    groups = feature_groups(x.param, x.elements, x.reading, epsilon=1e-8, vector_factor=lambda r: r)
    groups = groups._replace(factored=[] if x.reading.cols is None else groups.factored)
    return ordered(groups, x.reading)


def _larger(x: _Seen) -> list[Feature]:
    return [Feature(LARGER * value, None if square is None else LARGER**2 * square) for value, square in _features(x)]


def _direction(x: _Seen, outputs: Sequence[Any]) -> Array:
    del x
    return outputs[0]


POINTWISE = Pointwise(_observe, _larger, _direction)


class Celo2(AbstractAlgorithm[CellState, Any, Any]):
    r"""A small network per parameter that says the direction of a step; its size is the rate.

    $$\theta \leftarrow \theta - e^\alpha (R(O(N(f(\theta, g, m, v, r, c)))) + \lambda \theta), \qquad
      R(x) = \frac{x}{\sqrt{\overline{x^2} + 10^{-9}}}$$

    with means over the last two axes, and the features $f$ of [`metaopt.l2o.Celo`][], each of them normalized by $R$.
    $O$ orthogonalizes matrices with five iterations of Newton and Schulz. Biases, scalars and embeddings take the step
    of Adam,

    $$\theta \leftarrow \theta - e^{\alpha'} \left(\frac{\hat m}{\sqrt{\hat v} + e^\epsilon} + \lambda \theta\right)$$

    Without these two, it is Celo2-base: `Celo2(orthogonalize=False, adam_scale=None)`. Gradients that the network sees
    are clipped to $\pm 1000$. It has no schedule of its own: wrap it in [`metaopt.schedules.Cosine`][]. Published
    weights are read by [`metaopt.l2o.load_published`][].

    The learned leaves are the network's weights, $\alpha$, $\lambda$, $\log(1 - \beta)$ of all decays, and Adam's.

    ??? cite "Reference"

        ```bibtex
        @inproceedings{moudgil2026celo2,
          title={Celo2: Towards Learned Optimization Free Lunch},
          author={Moudgil, Abhinav and Knyazev, Boris and Belilovsky, Eugene},
          booktitle={ICLR}, year={2026}, note={arXiv:2602.19142}
        }
        ```
    """

    network: Network
    averager: Averager
    adam: LearnableAdam | None
    log_rate: Float[Array, ""]
    weight_decay: Float[Array, ""]
    backend: AbstractBackend
    orthogonalize: bool = eqx.field(static=True)
    adam_pattern: str = eqx.field(static=True)

    def __init__(
        self,
        rate: float = 1e-3,
        *,
        hidden_size: int = 8,
        hidden_layers: int = 2,
        orthogonalize: bool = True,
        weight_decay: float = 0.0,
        adam_scale: float | None = 20.0,
        adam_pattern: str = "embed",
        momentum_decays: Sequence[float] = (0.9, 0.99, 0.999),
        second_decay: float = 0.95,
        factored_decays: Sequence[float] = (0.9, 0.99, 0.999),
        backend: AbstractBackend | None = None,
        key: PRNGKeyArray | None = None,
    ):
        """**Arguments:**

        - `rate`: $e^\\alpha$, the root mean square of a step.
        - `hidden_size`, `hidden_layers`: of the network.
        - `orthogonalize`: whether matrices are orthogonalized; of a tensor of more axes, those of the last two.
        - `weight_decay`: $\\lambda$.
        - `adam_scale`: how many times `rate` is the rate of Adam, $e^{\\alpha'}$. `None`: the network is for all
            tensors.
        - `adam_pattern`: a regular expression. Besides tensors of less than two axes, Adam is for those in whose path
            it is found, such as `params['embedding']`.
        - `momentum_decays`: of the averages of the gradient.
        - `second_decay`: of the average of its square.
        - `factored_decays`: of the averages over rows and columns; as many as `momentum_decays`.
        - `backend`: computes the network; by default what [`metaopt.backend.automatic`][] chooses.
        - `key`: draws the weights; the same weights each time if it is left out.

        **Raises:**

        - `ValueError`: if `adam_pattern` is no regular expression, or a number is not possible.
        """
        POSITIVE.check(rate=rate, adam_scale=adam_scale)
        NONNEGATIVE.check(weight_decay=weight_decay)
        COUNT.check(hidden_size=hidden_size)
        WHOLE.check(hidden_layers=hidden_layers)
        if not weight_decay >= 0:
            raise ValueError(f"`weight_decay` must be at least 0, but {weight_decay} was given.")
        try:
            re.compile(adam_pattern)
        except re.error as error:
            raise ValueError(f"`adam_pattern` must be a regular expression, but {adam_pattern!r}: {error}.") from error
        self.averager = Averager.create(momentum_decays, second_decay, factored_decays)
        sizes = [inputs(self.averager.pairs), *[hidden_size] * hidden_layers, 1]
        self.network = Network.create(sizes, key=default_key(key))
        self.adam = None if adam_scale is None else LearnableAdam(adam_scale * rate, 0.9, 0.95, 1e-8)
        self.log_rate = positive_log(rate, "rate")
        self.weight_decay = number(weight_decay)
        self.backend = automatic() if backend is None else backend
        self.orthogonalize = orthogonalize
        self.adam_pattern = adam_pattern

    def init(self, params: Any, *, key: PRNGKeyArray | None = None) -> CellState:
        del key

        def one(path: Any, param: Array) -> Averages | Moments:
            zeros = jnp.zeros(param.shape, compute_dtype(param.dtype))
            by_adam = self.adam is not None and self._is_for_adam("params" + jtu.keystr(path), param)
            return Moments(zeros, zeros) if by_adam else self.averager.init(zeros)

        leaves = trainable(params)
        return CellState(jnp.zeros((), jnp.int32), jtu.tree_map_with_path(one, leaves), not_started(leaves))

    def _is_for_adam(self, name: str, param: Array) -> bool:
        return param.ndim < 2 or re.search(self.adam_pattern, name) is not None

    def step(self, state: CellState, params: P, grads: Any, *, value: Scalar | None = None) -> tuple[CellState, P]:
        del value
        matched = match_real(params, grads)
        olds = matched.pick(state.tensors)
        tensors: list[Averages | Moments] = list(olds)
        new: list[Array] = [leaf.param for leaf in matched.leaves]
        learned = [index for index, old in enumerate(olds) if isinstance(old, Averages)]
        directions = self._directions([matched.leaves[i] for i in learned], [olds[i] for i in learned])
        for index, (averages, direction) in zip(learned, directions, strict=True):
            tensors[index] = averages
            new[index] = self._moved(matched.leaves[index], self._shaped(direction), self.log_rate)
        for index, (leaf, old) in enumerate(zip(matched.leaves, olds, strict=True)):
            if isinstance(old, Moments):
                assert self.adam is not None  # only then are there moments
                tensors[index], direction = self.adam.direction(old, widen(leaf)[1], state.count)
                new[index] = self._moved(leaf, direction, self.adam.log_rate)
        return finish(state, matched, moving(state, matched), tensors, new)

    def _moved(self, leaf: Leaf, direction: Float[Array, "*p"], log_rate: Float[Array, ""]) -> Float[Array, "*p"]:
        param, _ = widen(leaf)
        rate, decay = jnp.exp(log_rate.astype(param.dtype)), self.weight_decay.astype(param.dtype)
        return param - rate * (direction + decay * param)

    def _shaped(self, direction: Float[Array, "*p"]) -> Float[Array, "*p"]:
        if not direction.size:
            return direction
        if self.orthogonalize and direction.ndim > 1:
            direction = newton_schulz(direction)
        return normalized(direction, SMALL)

    def _directions(
        self, leaves: Sequence[Leaf], olds: Sequence[Averages]
    ) -> list[tuple[Averages, Float[Array, "..."]]]:
        """The new averages of each tensor, and what the network says. Kernels normalize over whole tensors, so those
        of more than two axes are computed without."""
        readings, tensors = [], []
        for leaf, old in zip(leaves, olds, strict=True):
            param, grad = widen(leaf)
            readings.append(self.averager.read(old, clipped(grad)))
            tensors.append(Tensor(param, old.elements, readings[-1], leaf.path))
        updated: dict[int, Updated] = {}
        for network, indices in (
            (self._without_factored, [i for i, tensor in enumerate(tensors) if tensor.param.ndim < 2]),
            (self.network, [i for i, tensor in enumerate(tensors) if tensor.param.ndim == 2]),
        ):
            context = jnp.zeros(0, self.log_rate.dtype)
            found = self.backend.network_update(POINTWISE, network, context, [tensors[i] for i in indices])
            updated.update(zip(indices, found, strict=True))
        for index, tensor in enumerate(tensors):
            if tensor.param.ndim > 2:
                elements, seen = _observe(tensor.param, tensor.state, tensor.operands)
                features = [feature.value for feature in _features(seen)]
                (direction,) = plain_network(self.network, features, tensor.shape, SMALL)
                updated[index] = Updated(elements, direction)
        return [
            (Averages(updated[i].state, reading.rows, reading.cols), updated[i].param)
            for i, reading in enumerate(readings)
        ]

    @property
    def _without_factored(self) -> Network:
        first, *others = self.network.layers
        kept = first.weight.shape[1] - 5 * self.averager.pairs
        return Network((Layer(first.weight[:, :kept], first.bias), *others))
