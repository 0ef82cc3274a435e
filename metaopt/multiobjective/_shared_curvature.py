"""A population whose members learn the curvature from each other."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import jax.tree_util as jtu
from jaxtyping import Array, Float, Int, PRNGKeyArray, PyTree, Scalar

from .._core import AbstractAlgorithm
from .._core._numbers import check_counts
from .._core._trees import compute_dtype, trainable
from ._gramian import Gradients, match_stacked, refuse_complex, silent, unpack


# Directions in which the population is narrower than this, beside its widest one, are not known.
_NARROWEST = 1e-5
# Newton's steps are no longer than so many deviations of the population per direction.
_RADIUS = 4.0


class _State(eqx.Module):
    inner: PyTree
    step: Int[Array, ""]


class SharedCurvature(AbstractAlgorithm[_State, PyTree, Gradients]):
    r"""Step with a population whose members tell each other the curvature of the objectives, as far as it is trusted.

    Parameters, and the state of the inner algorithm, are stacked on a leading axis over $n$ members with preferences
    $w_k$ of their own. With $X$ the differences of the members from their mean in units $s$, their deviations number by
    number, and $G_i$ those of their gradients of the $i$-th objective, an orthonormal basis $E$ of the rows of $X$
    tells the Hessian on their span, and a Newton step there:

    $$H_i = E \, \big[\tfrac12 (X^+ G_i + G_i^\top X^{+\top})\big] E^\top, \qquad
      d_k = -s \odot E^\top \Big|\sum_i w_{ki} H_i\Big|^{-1} E \Big(s \odot \sum_i w_{ki} g_{ki}\Big)$$

    where the absolute value is that of eigenvalues. If objectives are quadratic, and there are more members than
    numbers, $d_k$ ends at the least weighted sum. A network says how far to go there rather than where the inner
    algorithm goes:

    $$\theta_k \leftarrow \theta_k + (1 - c_k) (\mathrm{inner.step}(\theta_k, g_k) - \theta_k) + c_k d_k$$

    It reads how unsymmetric the estimates of $H_i$ are (zero for quadratic objectives without noise), how long $d_k$
    is, what share of the gradient lies in the span, and the number of steps. Before it is trained, $c_k = 0$: the inner
    algorithm. All that is computed of the parameters are inner products, $m n^2$ of them.

    The signal is [`metaopt.multiobjective.Gradients`][] with gradients of shape $(m, n, \dots)$, values $(m, n)$ and
    preferences $(n, m)$, as tasks of [`metaopt.multiobjective.Preferred`][] with `members` have it. The inner algorithm
    is given those of one member at a time. Meta-train it by [`metaopt.meta_train`][].
    """

    inner: AbstractAlgorithm[Any, Any, Any]
    trust: eqx.nn.MLP

    def __init__(
        self, inner: AbstractAlgorithm[Any, Any, Any], hidden_size: int = 16, *, key: PRNGKeyArray | None = None
    ):
        """**Arguments:**

        - `inner`: the algorithm of each member; it takes several gradients, such as
            [`metaopt.multiobjective.PreferenceConditioned`][] or a combiner.
        - `hidden_size`: the width of the network.
        - `key`: draws its weights.

        **Raises:**

        - `ValueError`: if `hidden_size` is below 1.

        ??? cite "Reference"

            ```bibtex
            @inproceedings{dauphin2014identifying,
              title={Identifying and Attacking the Saddle Point Problem in High-Dimensional Non-Convex Optimization},
              author={Dauphin, Yann N. and Pascanu, Razvan and Gulcehre, Caglar and Cho, Kyunghyun and Ganguli, Surya
                  and Bengio, Yoshua},
              booktitle={NeurIPS}, year={2014}
            }
            ```
        """
        check_counts(hidden_size=hidden_size)
        self.inner = inner
        self.trust = silent(eqx.nn.MLP(5, 1, hidden_size, 1, key=jr.key(0) if key is None else key))

    def init(self, params: PyTree, *, key: PRNGKeyArray | None = None) -> _State:
        members = {leaf.shape[0] if leaf.ndim else 0 for leaf in jtu.tree_leaves(trainable(params))}
        if len(members) != 1 or min(members) < 2:
            raise ValueError(
                "A population has two or more members on the leading axis of all its parameters, but leading axes of "
                f"{sorted(members)} were given. Stack the members, or use the inner algorithm itself."
            )
        keys = None if key is None else jr.split(key, members.pop())
        inner = eqx.filter_vmap(lambda p, k: self.inner.init(p, key=k), in_axes=(_stacked, eqx.if_array(0)))(
            params, keys
        )
        return _State(inner, jnp.zeros((), jnp.int32))

    def step(
        self, state: _State, params: PyTree, grads: Gradients, *, value: Scalar | None = None
    ) -> tuple[_State, PyTree]:
        del value  # that of the population is no member's
        signal = unpack(grads)
        matched, stacked = match_stacked(params, signal.gradients)
        if not stacked:
            return _State(state.inner, state.step + 1), params
        refuse_complex(matched)
        m, n = stacked[0].shape[:2]
        wide = [leaf.param.astype(compute_dtype(leaf.param.dtype)) for leaf in matched.leaves]
        dtype = max((p.dtype for p in wide), key=lambda dtype: dtype.itemsize)
        weights = jnp.full((n, m), 1 / m, dtype) if signal.preference is None else signal.preference.astype(dtype)
        if weights.shape != (n, m):
            raise ValueError(
                f"`preference` must have shape {(n, m)}, a row for each member, but {weights.shape} was given."
            )

        def stepped(state: PyTree, params: PyTree, gradients: PyTree, values: Any, weights: Array) -> Any:
            value = None if values is None else weights @ values.astype(dtype)
            return self.inner.step(state, params, Gradients(gradients, values, weights), value=value)

        by_member = jtu.tree_map(lambda g: jnp.swapaxes(g, 0, 1), signal.gradients)
        values = None if signal.values is None else signal.values.T
        axes = eqx.if_array(0), _stacked, eqx.if_array(0), 0, 0
        inner, moved = eqx.filter_vmap(stepped, in_axes=axes)(state.inner, params, by_member, values, weights)
        flat = jnp.concatenate([p.astype(dtype).reshape(n, -1) for p in wide], axis=1)
        slopes = jnp.concatenate([g.astype(dtype).reshape(m, n, -1) for g in stacked], axis=2)
        newton, seen = jax.lax.stop_gradient(_newton(flat, slopes, weights))
        count = state.step.astype(dtype) + 1
        time = jnp.stack([jnp.tanh(count / 10 - 1), jnp.tanh(count / 100 - 1)])
        inputs = jnp.concatenate([seen, jnp.tile(time[None], (n, 1))], axis=1)
        trust = jtu.tree_map(lambda x: x.astype(dtype) if eqx.is_inexact_array(x) else x, self.trust)
        share = jax.vmap(trust)(inputs)
        ends = jnp.split(newton, [*_ends(wide)], axis=1)
        mixed = []
        for p, q, move in zip(wide, matched.pick(moved), ends, strict=True):
            c = share.reshape(n, *[1] * (p.ndim - 1)).astype(p.dtype)
            mixed.append(
                (p + (1 - c) * (q.astype(p.dtype) - p) + c * move.reshape(p.shape).astype(p.dtype)).astype(q.dtype)
            )
        return _State(inner, state.step + 1), matched.put(params, mixed)


def _stacked(leaf: Any) -> int | None:
    """The axis of a leaf that counts members."""
    return 0 if eqx.is_inexact_array(leaf) else None


def _newton(
    x: Float[Array, "n d"], g: Float[Array, "m n d"], weights: Float[Array, "n m"]
) -> tuple[Float[Array, "n d"], Float[Array, "n 3"]]:
    """Newton's steps of the weighted sums in the span of a population, and what tells how good they are."""
    n = x.shape[0]
    spread = jnp.std(x, axis=0)
    scaled = (x - jnp.mean(x, axis=0)[None]) / jnp.where(spread > 0, spread, 1)[None]
    slopes = g * spread[None, None]
    sizes, directions = jnp.linalg.eigh(scaled @ scaled.T)
    known = sizes > _NARROWEST * sizes[-1]
    # Rows that are orthonormal, or zero.
    basis = (directions * jnp.where(known, jax.lax.rsqrt(jnp.where(known, sizes, 1)), 0)[None]).T
    away = basis @ scaled
    # Of G = X H, whose means are zero.
    secants = jnp.einsum("kd,mnd->mkn", away, slopes - jnp.mean(slopes, axis=1, keepdims=True))
    secants = jnp.einsum("mkn,ln->mkl", secants, basis)
    flipped = jnp.swapaxes(secants, 1, 2)
    skew = _norm(secants - flipped, (1, 2)) / (_norm(secants + flipped, (1, 2)) + jnp.finfo(x.dtype).tiny)
    hessians = jnp.einsum("nm,mkl->nkl", weights, (secants + flipped) / 2)
    wanted = jnp.einsum("nm,mnd->nd", weights, slopes)
    within = wanted @ away.T
    curvatures, axes = jnp.linalg.eigh(hessians)
    curvatures = jnp.abs(curvatures)
    least = _NARROWEST * jnp.max(curvatures, axis=1, keepdims=True)
    solved = jnp.einsum("nkl,nk->nl", axes, within) / jnp.maximum(curvatures, least + jnp.finfo(x.dtype).tiny)
    steps = -jnp.einsum("nkl,nl->nk", axes, solved)
    length = _norm(steps, 1) / jnp.sqrt(jnp.sum(known, dtype=x.dtype))
    steps = jnp.nan_to_num(steps * jnp.minimum(1, _RADIUS / (length + 1e-12))[:, None])
    share = _norm(within, 1) / (_norm(wanted, 1) + jnp.finfo(x.dtype).tiny)
    seen = jnp.stack([jnp.broadcast_to(jnp.mean(skew), n), jnp.log1p(length), share], axis=1)
    return (steps @ away) * spread[None], jnp.nan_to_num(seen)


def _norm(x: Array, axes: int | tuple[int, ...]) -> Array:
    return jnp.sqrt(jnp.sum(jnp.square(x), axis=axes))


def _ends(leaves: list[Array]) -> list[int]:
    """Where each leaf's columns end, but for the last."""
    sizes = [leaf[0].size for leaf in leaves]
    return [sum(sizes[: i + 1]) for i in range(len(sizes) - 1)]
