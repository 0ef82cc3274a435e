"""A population whose members learn the curvature from each other."""

import functools as ft
from collections.abc import Callable
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import jax.tree_util as jtu
import numpy as np
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray, PyTree, Scalar

from ..._core import AbstractAlgorithm
from ..._core.arrays._numbers import check_counts
from ..._core.arrays._trees import compute_dtype, trainable
from ._gramian import Gradients, match_stacked, refuse_complex, silent, unpack


# Eigenvalues below this power of the rounding error, beside the largest one, are not known.
_POWER = 2 / 3
# Newton's steps are no longer than so many deviations of the population per direction.
_RADIUS = 4.0


class _State(NamedTuple):
    inner: PyTree
    count: Int[Array, ""]  # pyright: ignore[reportIncompatibleMethodOverride]


class SharedCurvature(AbstractAlgorithm[_State, PyTree, Gradients]):
    r"""Step with a population whose members tell each other the curvature of the objectives, as far as it is trusted.

    Parameters, and the state of the inner algorithm, are stacked on a leading axis over $n$ members with preferences
    $w_k$ of their own. Let $X$ be the differences of the members from their mean in units $s$, their deviations number
    by number, and $G_i$ those of their gradients of the $i$-th objective. They tell the Hessian on the span of $X$, and
    a Newton step there:

    $$E = R X, \qquad R = (X X^\top)^{-1/2}, \qquad H_i = R \, \tfrac12 (X G_i^\top + G_i X^\top) \, R$$

    $$d_k = -s \odot E^\top \Big|\sum_i w_{ki} H_i\Big|^{-1} E \Big(s \odot \sum_i w_{ki} g_{ki}\Big)$$

    where roots and absolute values are those of eigenvalues, and zero ones are left out. If objectives are quadratic,
    and there are more members than numbers, $d_k$ ends at the least weighted sum. A network says how far to go there
    rather than where the inner algorithm goes:

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
        if not members:
            return _State(self.inner.init(params, key=key), jnp.zeros((), jnp.int32))
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
            return _State(state.inner, state.count + 1), params
        refuse_complex(matched)
        m, n = stacked[0].shape[:2]
        wide = [leaf.param.astype(compute_dtype(leaf.param.dtype)) for leaf in matched.leaves]
        dtype = max((p.dtype for p in wide), key=lambda dtype: dtype.itemsize)
        weights = jnp.full((n, m), 1 / m, dtype) if signal.preference is None else signal.preference.astype(dtype)
        if weights.shape != (n, m):
            raise ValueError(
                f"`preference` must have shape {(n, m)}, a row for each member, but {weights.shape} was given."
            )

        def stepped(state: Any, params: PyTree, gradients: PyTree, values: Any, weights: Array) -> Any:
            value = None if values is None else weights @ values.astype(dtype)
            return self.inner.step(state, params, Gradients(gradients, values, weights), value=value)

        by_member = jtu.tree_map(lambda g: jnp.swapaxes(g, 0, 1), signal.gradients)
        values = None if signal.values is None else signal.values.T
        axes = eqx.if_array(0), _stacked, eqx.if_array(0), 0, 0
        inner, moved = eqx.filter_vmap(stepped, in_axes=axes)(state.inner, params, by_member, values, weights)
        flat = jnp.concatenate([p.astype(dtype).reshape(n, -1) for p in wide], axis=1)
        slopes = jnp.concatenate([g.astype(dtype).reshape(m, n, -1) for g in stacked], axis=2)
        newton, seen = _newton(flat, slopes, weights)
        count = state.count.astype(dtype) + 1
        time = jnp.stack([jnp.tanh(count / 10 - 1), jnp.tanh(count / 100 - 1)])
        inputs = jnp.concatenate([seen, jnp.tile(time[None], (n, 1))], axis=1)
        trust = jtu.tree_map(lambda x: x.astype(dtype) if eqx.is_inexact_array(x) else x, self.trust)
        share = jax.vmap(trust)(inputs)
        ends = jnp.split(newton, np.cumsum([p[0].size for p in wide])[:-1], axis=1)
        mixed = []
        for p, q, move in zip(wide, matched.pick(moved), ends, strict=True):
            c = share.reshape(n, *[1] * (p.ndim - 1)).astype(p.dtype)
            mixed.append(
                (p + (1 - c) * (q.astype(p.dtype) - p) + c * move.reshape(p.shape).astype(p.dtype)).astype(q.dtype)
            )
        return _State(inner, state.count + 1), matched.put(params, mixed)


def _stacked(leaf: Any) -> int | None:
    """The axis of a leaf that counts members."""
    return 0 if eqx.is_inexact_array(leaf) else None


def _newton(
    x: Float[Array, "n d"], g: Float[Array, "m n d"], weights: Float[Array, "n m"]
) -> tuple[Float[Array, "n d"], Float[Array, "n 3"]]:
    """Newton's steps of the weighted sums in the span of a population, and what tells how good they are."""
    n, tiny = x.shape[0], jnp.finfo(x.dtype).tiny
    away = x - jnp.mean(x, axis=0)[None]
    spread = _norm(away, 0) / n**0.5
    scaled = away / jnp.where(spread > 0, spread, 1)[None]
    slopes = g * spread[None, None]
    # The rows of `basis` are those of an orthogonal projection of members onto their differences.
    root = _of_eigenvalues(scaled @ scaled.T, _inverse_root)
    basis = root @ scaled
    # Of G = X H, whose means are zero.
    secants = jnp.einsum("kd,mnd->mkn", basis, slopes - jnp.mean(slopes, axis=1, keepdims=True))
    secants = jnp.einsum("mkn,ln->mkl", secants, root)
    flipped = jnp.swapaxes(secants, 1, 2)
    skew = jnp.mean(_norm(secants - flipped, (1, 2)) / (_norm(secants + flipped, (1, 2)) + tiny))
    hessians = jnp.einsum("nm,mkl->nkl", weights, (secants + flipped) / 2)
    wanted = jnp.einsum("nm,mnd->nd", weights, slopes)
    within = wanted @ basis.T
    inverses = jax.vmap(lambda h: _of_eigenvalues(h, _inverse_size))(hessians)
    steps = -jnp.einsum("nkl,nl->nk", inverses, within) @ basis
    length = _norm(steps, 1) / n**0.5
    steps = steps * jnp.minimum(1, _RADIUS / (length + tiny))[:, None]
    share = _norm(within, 1) / (_norm(wanted, 1) + tiny)
    seen = jnp.stack([jnp.broadcast_to(skew, n), jnp.log1p(length), share], axis=1)
    return steps * spread[None], seen


def _inverse_root(sizes: Float[Array, " n"]) -> tuple[Float[Array, " n"], Float[Array, " n"]]:
    """One over the roots of eigenvalues, and the derivative."""
    known, safe = _known(sizes)
    root = jnp.where(known, jax.lax.rsqrt(safe), 0)
    return root, -0.5 * root / safe


def _inverse_size(curvatures: Float[Array, " n"]) -> tuple[Float[Array, " n"], Float[Array, " n"]]:
    """One over the absolute values of eigenvalues, and the derivative."""
    known, safe = _known(jnp.abs(curvatures))
    inverse = jnp.where(known, 1 / safe, 0)
    return inverse, -jnp.sign(curvatures) * jnp.square(inverse)


def _known(sizes: Float[Array, " n"]) -> tuple[Bool[Array, " n"], Float[Array, " n"]]:
    """Which eigenvalues count, for which others the functions are zero; and these, with others set to one."""
    known = sizes > jnp.finfo(sizes.dtype).eps ** _POWER * jnp.max(sizes)
    return known, jnp.where(known, sizes, 1)


@ft.partial(jax.custom_jvp, nondiff_argnums=(1,))
def _of_eigenvalues(matrix: Float[Array, "n n"], function: Callable[..., Any]) -> Float[Array, "n n"]:
    """A function of a symmetric matrix. The cut below which eigenvalues do not count is taken as constant."""
    sizes, axes = jnp.linalg.eigh(matrix)
    return (axes * function(sizes)[0][None]) @ axes.T


@_of_eigenvalues.defjvp
def _of_eigenvalues_jvp(
    function: Callable[..., Any], primals: tuple[Array], tangents: tuple[Array]
) -> tuple[Array, Array]:
    # Of Daleckii and Krein: finite where eigenvalues coincide, as that of their axes is not.
    (matrix,), (tangent,) = primals, tangents
    sizes, axes = jnp.linalg.eigh(matrix)
    values, slopes = function(sizes)
    apart = sizes[:, None] - sizes[None]
    far = jnp.abs(apart) > 1e-3 * (jnp.abs(sizes[:, None]) + jnp.abs(sizes[None]))
    quotients = (values[:, None] - values[None]) / jnp.where(far, apart, 1)
    quotients = jnp.where(far, quotients, (slopes[:, None] + slopes[None]) / 2)
    inner = axes.T @ ((tangent + tangent.T) / 2) @ axes
    return (axes * values[None]) @ axes.T, axes @ (quotients * inner) @ axes.T


def _norm(x: Array, axes: int | tuple[int, ...]) -> Array:
    """Euclidean norms, whose derivative is zero at zero."""
    squares = jnp.sum(jnp.square(x), axis=axes)
    return jnp.where(squares > 0, jnp.sqrt(jnp.where(squares > 0, squares, 1)), 0)
