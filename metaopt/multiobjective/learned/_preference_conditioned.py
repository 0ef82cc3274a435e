"""A learned optimizer of several objectives that is told the preference."""

from typing import Any, NamedTuple, TypeVar

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import jax.tree_util as jtu
from jaxtyping import Array, Float, Int, PRNGKeyArray, PyTree, Scalar

from ..._core import AbstractAlgorithm
from ..._core.arrays._numbers import check_counts
from ..._core.arrays._trees import compute_dtype, rounded, trainable
from ..base import AbstractCombiner
from ..combiners._gramian import fitting, match_stacked, put_nothing_else, refuse_complex, silent, unpack


P = TypeVar("P")

_DECAYS = 0.5, 0.9
_SQUARE_DECAY = 0.9
_EPSILON = 1e-12
# Factors between e^-4 and e^4.
_LARGEST = 4.0


class _Memory(NamedTuple):
    """Averages of the gradient of the preferred sum and of its square; the last one, and where it was."""

    first: Float[Array, "2 *p"]
    second: Float[Array, "*p"]
    last: Float[Array, "*p"]
    place: Float[Array, "*p"]


class _Views(eqx.Module):
    """What the network sees of all numbers of a tensor, and what of each is known of the sum."""

    pooled: Float[Array, "n h"]
    shared: Float[Array, "n s"]
    total: Float[Array, " n"]
    curvature: Float[Array, " n"]


class _State(NamedTuple):
    inner: PyTree
    count: Int[Array, ""]  # pyright: ignore[reportIncompatibleMethodOverride]
    tensors: PyTree


class PreferenceConditioned(AbstractAlgorithm[_State, Any, Any]):
    r"""Step on a weighted sum of gradients whose weights and rates a network sets, for each number by itself.

    $$\theta \leftarrow \theta + e^{b} \odot (\mathrm{inner.step}(\theta, g) - \theta), \qquad
      g = \sum_i w_i e^{a_i} \odot g_i$$

    For each number among the parameters, a network reads every objective's gradient and weight, in units of the
    preferred sum $\sum_i w_i g_i$; the sum and its averages, in units of its root mean square; how long the step of the
    inner algorithm is beside that of a secant method; and the number of steps. What it makes of the objectives is
    averaged, so that their number and order do not matter. Its outputs are $a_i$ and $b$, within $\pm 4$. Both are zero
    before it is trained: the weighted sum. The preference $w$ is that of the signal,
    [`metaopt.multiobjective.Gradients`][], as tasks of [`metaopt.multiobjective.Preferred`][] have it; by default all
    are $1 / m$. Meta-train it by [`metaopt.meta_train`][].
    """

    inner: AbstractAlgorithm[Any, Any, Any]
    embed: eqx.nn.MLP
    weigh: eqx.nn.MLP
    pace: eqx.nn.MLP

    def __init__(
        self, inner: AbstractAlgorithm[Any, Any, Any], hidden_size: int = 16, *, key: PRNGKeyArray | None = None
    ):
        """**Arguments:**

        - `inner`: the algorithm that steps on the sum.
        - `hidden_size`: the width of the network.
        - `key`: draws its weights.

        **Raises:**

        - `TypeError`: if `inner` is itself a combiner.
        - `ValueError`: if `hidden_size` is below 1.
        """
        check_counts(hidden_size=hidden_size)
        if isinstance(inner, AbstractCombiner | PreferenceConditioned):
            raise TypeError(
                f"`inner` steps on one gradient, but `{type(inner).__name__}`, which combines several, was given. "
                "Give the algorithm that it wraps."
            )
        keys = jr.split(jr.key(0) if key is None else key, 3)
        shared = len(_DECAYS) + 4
        self.inner = inner
        self.embed = eqx.nn.MLP(3 + shared, hidden_size, hidden_size, 1, key=keys[0])
        self.weigh = silent(eqx.nn.MLP(2 * hidden_size, 1, hidden_size, 1, key=keys[1]))
        self.pace = silent(eqx.nn.MLP(hidden_size + shared + 2, 1, hidden_size, 1, key=keys[2]))

    def init(self, params: Any, *, key: PRNGKeyArray | None = None) -> _State:
        def one(leaf: Array) -> _Memory:
            place = jnp.asarray(leaf, compute_dtype(leaf.dtype))
            firsts = jnp.zeros((len(_DECAYS), *place.shape), place.dtype)
            return _Memory(firsts, jnp.zeros_like(place), jnp.zeros_like(place), place)

        tensors = jtu.tree_map(one, trainable(params))
        return _State(self.inner.init(params, key=key), jnp.zeros((), jnp.int32), tensors)

    def step(self, state: _State, params: P, grads: Any, *, value: Scalar | None = None) -> tuple[_State, P]:
        signal = unpack(grads)
        matched, stacked = match_stacked(params, signal.gradients)
        refuse_complex(matched)
        tensors, combined, views, wide = [], [], [], []
        for leaf, g, old in zip(matched.leaves, stacked, matched.pick(state.tensors), strict=True):
            wide.append(leaf.param.astype(compute_dtype(leaf.param.dtype)))
            new, mixed, view = self._mix(old, wide[-1], g, signal.preference, state.count)
            tensors.append(new)
            combined.append(mixed)
            views.append(view)
        direction = put_nothing_else(params, matched, combined)
        inner, moved = self.inner.step(state.inner, params, direction, value=value)
        paced = []
        for p, q, view in zip(wide, matched.pick(moved), views, strict=True):
            move = q.astype(p.dtype) - p
            paced.append((p + self._rates(view, move) * move).astype(q.dtype))
        return _State(inner, state.count + 1, matched.put(state.tensors, tensors)), matched.put(moved, paced)

    def _mix(
        self,
        old: _Memory,
        param: Float[Array, "*p"],
        g: Float[Array, "m *p"],
        preference: Float[Array, " k"] | None,
        step: Int[Array, ""],
    ) -> tuple[_Memory, Float[Array, "*p"], _Views]:
        """The new memory, the sum of the gradients, and what the network sees."""
        m, shape = g.shape[0], g.shape[1:]
        dtype = param.dtype
        weights = jnp.full(m, 1 / m, dtype)
        weights = weights if preference is None else fitting(jnp.eye(m, dtype=dtype), preference, "preference")
        flat = g.astype(dtype).reshape(m, -1)
        total = weights @ flat
        count = step.astype(dtype) + 1
        decays = jnp.asarray(_DECAYS, dtype)[:, None]
        first = decays * old.first.reshape(len(_DECAYS), -1) + (1 - decays) * total[None]
        second = _SQUARE_DECAY * old.second.reshape(-1) + (1 - _SQUARE_DECAY) * jnp.square(total)
        mean, square = first / (1 - decays**count), second / (1 - _SQUARE_DECAY**count)
        root = 1 / jnp.sqrt(square + _EPSILON)
        size = jnp.sqrt(jnp.mean(jnp.square(total)) + _EPSILON)
        time = jnp.stack([jnp.tanh(count / 10 - 1), jnp.tanh(count / 100 - 1)])
        shared = [total * root, *(mean * root[None]), *jnp.tile(time[:, None], total.shape), jnp.log(size * root) / 4]
        shared = jnp.stack(shared, axis=-1)
        own = [_squash(flat * root[None]), _squash(flat / size)]
        own = jnp.stack([*own, jnp.broadcast_to((m * weights - 1)[:, None], flat.shape)], axis=-1)
        both = jnp.concatenate([own, jnp.broadcast_to(shared[None], (m, *shared.shape))], axis=-1)
        hidden = _each(self.embed, both)
        pooled = jnp.mean(hidden, axis=0)
        seen = jnp.concatenate([hidden, jnp.broadcast_to(pooled[None], hidden.shape)], axis=-1)
        shares = jnp.exp(_bounded(_each(self.weigh, seen)[..., 0]))
        mixed = rounded(jnp.sum(weights[:, None] * shares * flat, axis=0).reshape(shape), g.dtype)
        moved = (param - old.place).reshape(-1)
        change = total - old.last.reshape(-1)
        curvature = jnp.where(moved == 0, 0, change / jnp.where(moved == 0, 1, moved))
        # At the first step there is no last one.
        views = _Views(pooled, shared, total, jnp.where(step > 0, curvature, 0))
        memory = _Memory(first.reshape(len(_DECAYS), *shape), second.reshape(shape), total.reshape(shape), param)
        return memory, mixed, views

    def _rates(self, views: _Views, move: Float[Array, "*p"]) -> Float[Array, "*p"]:
        flat = move.reshape(-1)
        known = (views.curvature > 0) & (views.total != 0) & (flat != 0)
        ratio = jnp.where(known, views.curvature * flat / jnp.where(known, views.total, 1), 1)
        ratio = jnp.clip(jnp.log(jnp.maximum(jnp.abs(ratio), _EPSILON)), -8, 8) / 4
        extra = jnp.stack([ratio, known.astype(flat.dtype)], axis=-1)
        inputs = jnp.concatenate([views.pooled, views.shared, extra], axis=-1)
        return jnp.exp(_bounded(_each(self.pace, inputs)[..., 0])).reshape(move.shape)


def _squash(x: Float[Array, "*p"]) -> Float[Array, "*p"]:
    return jnp.arcsinh(x) / 2


def _bounded(x: Float[Array, "*p"]) -> Float[Array, "*p"]:
    return _LARGEST * jnp.tanh(x / _LARGEST)


def _each(network: eqx.nn.MLP, x: Float[Array, "*p f"]) -> Float[Array, "*p h"]:
    """The network at all places."""
    network = jtu.tree_map(lambda leaf: leaf.astype(x.dtype) if eqx.is_inexact_array(leaf) else leaf, network)
    found = jax.vmap(network)(x.reshape(-1, x.shape[-1]))
    return found.reshape(*x.shape[:-1], found.shape[-1])
