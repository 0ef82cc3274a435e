"""Cosine decay of the step size."""

from typing import Any

import equinox as eqx
import jax.numpy as jnp
import jax.tree_util as jtu
from jaxtyping import Array, Float, Int, PRNGKeyArray, PyTree, Scalar, ScalarLike

from .._core import AbstractAlgorithm, AbstractPlanner
from .._core._trees import compute_dtype


def _fraction(x: ScalarLike) -> Float[Array, ""]:
    if isinstance(x, int | float) and not 0 <= x <= 1:
        raise ValueError(f"A fraction must be between 0 and 1, but {x!r} was given.")
    return jnp.asarray(x, jnp.result_type(float))


def _horizon(x: ScalarLike) -> Int[Array, ""]:
    if isinstance(x, int | float) and (x < 1 or x != int(x)):
        raise ValueError(f"`horizon` must be a whole number of at least 1, but {x!r} was given.")
    return jnp.asarray(x, jnp.int32)


class _CosineState(eqx.Module):
    inner: PyTree
    clock: Int[Array, ""]


class Cosine(AbstractAlgorithm[PyTree, PyTree, Any], AbstractPlanner):
    r"""Scale the steps of an inner algorithm down along half a cosine.

    $$\theta_{t+1} = \theta_t + \phi(t) \, (\mathrm{inner}(\theta_t, g_t) - \theta_t), \qquad
      \phi(t) = \min\left(1, \frac{t + 1}{w}\right)
                \left(\rho + (1 - \rho) \, \frac{1 + \cos \pi u_t}{2}\right), \qquad
      u_t = \min\left(1, \frac{\max(0, t - w)}{H - w}\right)$$

    with the horizon $H$ (set by [`metaopt.with_horizon`][], which the drivers call), the final fraction $\rho$ and
    $w$ steps of linear warm-up. From step $H$ on, the factor stays at $\rho$. Around an algorithm whose state does not
    depend on its own steps, such as Adam, this is that algorithm with a cosine learning-rate schedule.

    The proposal of the inner algorithm is read in the dtype of the parameters, so for low-precision parameters a step
    is rounded before and after it is scaled.

    ??? cite "Reference"

        ```bibtex
        @inproceedings{loshchilov2017sgdr,
          title={{SGDR}: Stochastic Gradient Descent with Warm Restarts},
          author={Loshchilov, Ilya and Hutter, Frank},
          booktitle={ICLR}, year={2017}
        }
        ```
    """

    inner: AbstractAlgorithm[Any, Any, Any]
    horizon: Int[Array, ""]
    final_fraction: Float[Array, ""]
    warmup_fraction: Float[Array, ""]

    def __init__(
        self,
        inner: AbstractAlgorithm[Any, Any, Any],
        horizon: ScalarLike = 1000,
        final_fraction: ScalarLike = 0.0,
        warmup_fraction: ScalarLike = 0.0,
    ):
        r"""**Arguments:**

        - `inner`: the algorithm whose steps are scaled.
        - `horizon`: $H$, the number of steps until the factor is final.
        - `final_fraction`: $\rho$, where the factor ends.
        - `warmup_fraction`: $w / H$, the share of the horizon that is warm-up.

        **Raises:**

        - `ValueError`: if `horizon` is below 1 or a fraction is not between 0 and 1.
        """
        self.inner = inner
        self.horizon = _horizon(horizon)
        self.final_fraction = _fraction(final_fraction)
        self.warmup_fraction = _fraction(warmup_fraction)

    def factor(self, clock: Int[Array, ""]) -> Float[Array, ""]:
        r"""$\phi(t)$, by which step `clock` (counted from zero) is scaled."""
        dtype = compute_dtype(self.final_fraction.dtype)
        t, horizon = clock.astype(dtype), self.horizon.astype(dtype)
        final, warmup = self.final_fraction.astype(dtype), self.warmup_fraction.astype(dtype) * horizon
        rise = jnp.minimum((t + 1) / jnp.maximum(warmup, 1), 1)
        # The lower bound matters if all of the horizon is warm-up.
        done = jnp.clip((t - warmup) / jnp.maximum(horizon - warmup, 1e-3), 0, 1)
        return rise * (final + (1 - final) * (1 + jnp.cos(jnp.pi * done)) / 2)

    def init(self, params: PyTree, *, key: PRNGKeyArray | None = None) -> _CosineState:
        return _CosineState(self.inner.init(params, key=key), jnp.zeros((), jnp.int32))

    def step(
        self, state: _CosineState, params: PyTree, grads: Any, *, value: Scalar | None = None
    ) -> tuple[_CosineState, PyTree]:
        inner, proposed = self.inner.step(state.inner, params, grads, value=value)
        factor = self.factor(state.clock)

        def scale(old: Any, new: Any) -> Any:
            # An untouched leaf stays the same object; it may hold infinities, which arithmetic would spoil.
            if new is old or not eqx.is_inexact_array(old):
                return new
            dtype = compute_dtype(old.dtype)
            start = old.astype(dtype)
            return (start + factor.astype(dtype) * (new.astype(dtype) - start)).astype(old.dtype)

        return _CosineState(inner, state.clock + 1), jtu.tree_map(scale, params, proposed)
