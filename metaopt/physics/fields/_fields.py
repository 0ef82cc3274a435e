"""Networks that carry derivatives along, and what they can be wrapped in."""

import math
from collections.abc import Callable
from itertools import pairwise
from typing import Any, Literal

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Float, PRNGKeyArray

from ..._core.arrays._numbers import REAL, number
from ...tasks import AbstractNetwork
from ...tasks._common import check_choice, check_sizes
from .._functions import Known, as_function, constant
from ..base import AbstractField
from ._jets import Jet, folx_module


Smooth = Literal["tanh", "sin", "gelu", "silu", "softplus"]
Mode = Literal["jvp", "taylor", "folx"]


def _tanh(x: Array) -> tuple[Array, Array, Array]:
    t = jnp.tanh(x)
    slope = 1 - t * t
    return t, slope, -2 * t * slope


def _sin(x: Array) -> tuple[Array, Array, Array]:
    s = jnp.sin(x)
    return s, jnp.cos(x), -s


def _cos(x: Array) -> tuple[Array, Array, Array]:
    c = jnp.cos(x)
    return c, -jnp.sin(x), -c


def _by_differentiation(f: Callable[[Array], Array]) -> Callable[[Array], tuple[Array, Array, Array]]:
    def derivatives(x: Array) -> tuple[Array, Array, Array]:
        one = jnp.ones_like(x)

        def slope(x: Array) -> Array:
            return jax.jvp(f, (x,), (one,))[1]

        return f(x), *jax.jvp(slope, (x,), (one,))

    return derivatives


def _activation(name: Smooth) -> Callable[[Array], tuple[Array, Array, Array]]:
    if name == "tanh":
        return _tanh
    return _sin if name == "sin" else _by_differentiation(getattr(jax.nn, name))


class Perceptron(AbstractField):
    r"""A multilayer perceptron $h_{l+1} = \sigma(h_l W_l + b_l)$, linear in its last layer.

    Values, first derivatives and the second derivatives that an equation needs go through each layer in one matrix
    product.

    **Arguments:**

    - `sizes`: inputs, hidden units and outputs.
    - `activation`: $\sigma$, smooth.
    """

    sizes: tuple[int, ...] = eqx.field(static=True, converter=tuple, default=(2, 32, 32, 1))
    activation: Smooth = eqx.field(static=True, default="tanh")

    def __check_init__(self) -> None:
        check_sizes("sizes", self.sizes, fewest=2)
        check_choice("activation", self.activation, Smooth)

    @property
    def inputs(self) -> int:
        return self.sizes[0]

    @property
    def outputs(self) -> int:
        return self.sizes[-1]

    def init(self, *, key: PRNGKeyArray) -> tuple[dict[str, Float[Array, "..."]], ...]:
        layers = []
        for k, (rows, columns) in zip(jr.split(key, len(self.sizes) - 1), pairwise(self.sizes), strict=True):
            # Glorot's variance, for the derivatives flow both ways.
            weights = jr.normal(k, (rows, columns)) * math.sqrt(2 / (rows + columns))
            layers.append({"b": jnp.zeros(columns, weights.dtype), "w": weights})
        return tuple(layers)

    def push(self, params: Any, jet: Jet) -> Jet:
        f = _activation(self.activation)
        jet = Jet(jet.stack.astype(params[0]["w"].dtype), jet.axes, jet.rows)
        for layer in params[:-1]:
            jet = jet.linear(layer["w"]).elementwise(f, layer["b"])
        return jet.linear(params[-1]["w"], params[-1]["b"])


class Differentiated(AbstractField):
    """Any network, differentiated by nested forward mode, by Taylor mode or by the forward Laplacian of folx.

    **Arguments:**

    - `network`: of `metaopt.tasks`, or your own.
    - `widths`: of its inputs and of its outputs.
    - `mode`: `"jvp"`, `"taylor"`, or `"folx"` (extra `physics`), which wants a network without normalization over its
        batch.

    **Raises:**

    - `ImportError`: if folx is asked for, and missing.
    """

    network: AbstractNetwork
    widths: tuple[int, int] = eqx.field(static=True)
    mode: Mode = eqx.field(static=True, default="jvp")

    def __check_init__(self) -> None:
        check_choice("mode", self.mode, Mode)
        if self.mode == "folx":
            folx_module()

    @property
    def inputs(self) -> int:
        return self.widths[0]

    @property
    def outputs(self) -> int:
        return self.widths[1]

    def init(self, *, key: PRNGKeyArray) -> Any:
        return self.network.init(key=key)

    def push(self, params: Any, jet: Jet) -> Jet:
        def apply(x: Array) -> Array:
            return self.network.apply(params, x)

        push = {"jvp": jet.through, "taylor": jet.taylor, "folx": jet.forward_laplacian}[self.mode]
        return push(apply)


class FourierFeatures(AbstractField):
    r"""Feed an inner field with $\sin(2 \pi B x)$ and $\cos(2 \pi B x)$ for random frequencies $B \sim N(0, \sigma^2)$.

    **Arguments:**

    - `inner`: the field; it has twice as many inputs as there are frequencies.
    - `frequencies`: $B$, one row for each. Draw them with `fourier_features`.

    ??? cite "Reference"

        ```bibtex
        @inproceedings{tancik2020fourier,
            title={Fourier features let networks learn high frequency functions in low dimensional domains},
            author={Tancik, Matthew and Srinivasan, Pratul and Mildenhall, Ben and Fridovich-Keil, Sara and
                Raghavan, Nithin and Singhal, Utkarsh and Ramamoorthi, Ravi and Barron, Jonathan and Ng, Ren},
            booktitle={Advances in Neural Information Processing Systems},
            year={2020},
        }
        ```
    """

    inner: AbstractField
    frequencies: Float[Array, "k d"] = eqx.field(converter=number)

    def __check_init__(self) -> None:
        if self.inner.inputs != 2 * self.frequencies.shape[0]:
            raise ValueError(
                f"{self.frequencies.shape[0]} frequencies make {2 * self.frequencies.shape[0]} features, but the inner "
                f"field has {self.inner.inputs} inputs."
            )

    @property
    def inputs(self) -> int:
        return self.frequencies.shape[1]

    @property
    def outputs(self) -> int:
        return self.inner.outputs

    def init(self, *, key: PRNGKeyArray) -> Any:
        return self.inner.init(key=key)

    def push(self, params: Any, jet: Jet) -> Jet:
        w = 2 * math.pi * jax.lax.stop_gradient(self.frequencies).T.astype(jet.stack.dtype)
        phases = jet.linear(w)
        return self.inner.push(params, _beside(phases.elementwise(_sin), phases.elementwise(_cos)))


class Periodic(AbstractField):
    r"""Make an inner field periodic along some axes: it sees $\sin$ and $\cos$ of $2 \pi k x / L$ instead of $x$.

    **Arguments:**

    - `inner`: the field; each periodic axis gives it `2 * harmonics` inputs, each other axis one.
    - `periods`: $L$ for each axis, and 0 for an axis that is not periodic.
    - `harmonics`: the highest $k$.
    """

    inner: AbstractField
    periods: tuple[float, ...] = eqx.field(static=True, converter=tuple)
    harmonics: int = eqx.field(static=True, default=1)

    def __check_init__(self) -> None:
        wanted = sum(2 * self.harmonics if period else 1 for period in self.periods)
        if self.inner.inputs != wanted:
            raise ValueError(
                f"Periods {self.periods} with {self.harmonics} harmonics make {wanted} features, but the inner field "
                f"has {self.inner.inputs} inputs."
            )

    @property
    def inputs(self) -> int:
        return len(self.periods)

    @property
    def outputs(self) -> int:
        return self.inner.outputs

    def init(self, *, key: PRNGKeyArray) -> Any:
        return self.inner.init(key=key)

    def push(self, params: Any, jet: Jet) -> Jet:
        parts = []
        for axis, period in enumerate(self.periods):
            x = Jet(jet.stack[:, :, axis : axis + 1], jet.axes, jet.rows)
            if not period:
                parts.append(x)
                continue
            turns = 2 * math.pi / period * jnp.arange(1.0, self.harmonics + 1).astype(jet.stack.dtype)
            phases = x.linear(turns[None])
            parts += [phases.elementwise(_sin), phases.elementwise(_cos)]
        joined = parts[0]
        for part in parts[1:]:
            joined = _beside(joined, part)
        return self.inner.push(params, joined)


class Rescaled(AbstractField):
    """Feed an inner field with coordinates that run from -1 to 1, and scale its outputs.

    **Arguments:**

    - `inner`: the field.
    - `lower`, `upper`: the corners of a box around the domain.
    - `scale`: what the outputs are multiplied by.
    """

    inner: AbstractField
    lower: Float[Array, " d"] = eqx.field(converter=number)
    upper: Float[Array, " d"] = eqx.field(converter=number)
    scale: Float[Array, "..."] = eqx.field(converter=number, default=1.0)

    def __check_init__(self) -> None:
        REAL.check(lower=self.lower, upper=self.upper, scale=self.scale)

    @property
    def inputs(self) -> int:
        return self.inner.inputs

    @property
    def outputs(self) -> int:
        return self.inner.outputs

    def init(self, *, key: PRNGKeyArray) -> Any:
        return self.inner.init(key=key)

    def push(self, params: Any, jet: Jet) -> Jet:
        dtype = jet.stack.dtype
        lower, upper = self.lower.astype(dtype), self.upper.astype(dtype)
        moved = jet.linear(jnp.diag(2 / (upper - lower)), -(upper + lower) / (upper - lower))
        made = self.inner.push(params, moved)
        return Jet(made.stack * self.scale.astype(made.stack.dtype), made.axes, made.rows)


class HardBoundary(AbstractField):
    r"""Meet boundary values by construction: $u(x) = g(x) + d(x) \, N(x)$, where $d$ vanishes on the boundary.

    **Arguments:**

    - `inner`: $N$.
    - `distance`: $d$, a smooth function of points.
    - `extension`: $g$, a smooth function of points that has the boundary values.
    """

    inner: AbstractField
    distance: Known = eqx.field(converter=as_function)
    extension: Known = eqx.field(converter=as_function, default=0.0)

    def __check_init__(self) -> None:
        REAL.check(distance=constant(self.distance), extension=constant(self.extension))

    @property
    def inputs(self) -> int:
        return self.inner.inputs

    @property
    def outputs(self) -> int:
        return self.inner.outputs

    def init(self, *, key: PRNGKeyArray) -> Any:
        return self.inner.init(key=key)

    def push(self, params: Any, jet: Jet) -> Jet:
        inner = self.inner.push(params, jet)

        def known(function: Any) -> Jet:
            found = jet.through(lambda x: _columns(function(x)))
            stack = jnp.broadcast_to(found.stack, inner.stack.shape).astype(inner.stack.dtype)
            return Jet(stack, jet.axes, jet.rows)

        return known(self.distance).times(inner).plus(known(self.extension))


def _columns(values: Array) -> Array:
    return values[:, None] if values.ndim == 1 else values


def _beside(a: Jet, b: Jet) -> Jet:
    return Jet(jnp.concatenate([a.stack, b.stack], axis=2), a.axes, a.rows)


def fourier_features(
    inputs: int,
    hidden: tuple[int, ...],
    outputs: int = 1,
    *,
    frequencies: int = 16,
    scale: float = 1.0,
    activation: Smooth = "tanh",
    key: PRNGKeyArray,
) -> FourierFeatures:
    """Draw frequencies and put a perceptron behind them."""
    inner = Perceptron((2 * frequencies, *hidden, outputs), activation)
    return FourierFeatures(inner, scale * jr.normal(key, (frequencies, inputs)))
