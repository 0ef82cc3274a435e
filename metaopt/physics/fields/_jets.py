"""Values that carry first and second derivatives along, all in one array."""

import importlib
from collections.abc import Callable, Sequence
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from ..._core._extras import missing
from ..._core.arrays._numbers import usual_promotion


Rows = tuple[tuple[tuple[int, int], ...], ...]


def folx_module() -> Any:
    """The module `folx`.

    **Raises:**

    - `ImportError`: if it is missing.
    """
    try:
        return importlib.import_module("folx")
    except ImportError as error:
        raise missing('The mode `"folx"` needs', "folx", "physics", ', or use `"jvp"`') from error


def laplacian(axes: Sequence[int]) -> tuple[tuple[int, int], ...]:
    """The row that is the sum of unmixed second derivatives along some axes."""
    return tuple((axis, axis) for axis in axes)


class Jet(eqx.Module):
    r"""A function at many points with its derivatives, stacked so that a linear layer is one matrix product.

    Row 0 is the value $u$, rows 1 to $d$ the derivatives $\partial_i u$, and each further row a sum of second
    derivatives $\sum_{(i,j) \in P} \partial_i \partial_j u$. For the Laplacian, $P = \{(i, i)\}$: this one row costs as
    much as a first derivative. Through an elementwise $f$,

    $$f(u), \qquad f'(u) \, \partial_i u, \qquad
      f'(u) \sum_P \partial_i \partial_j u + f''(u) \sum_P \partial_i u \, \partial_j u.$$

    ??? cite "Reference"

        ```bibtex
        @article{li2024computational,
            title={A computational framework for neural network-based variational {M}onte {C}arlo with forward
                {L}aplacian},
            author={Li, Ruichen and Ye, Haotian and Jiang, Du and Wen, Xuelan and Wang, Chuwei and Li, Zhe and
                Li, Xiang and He, Di and Chen, Ji and Ren, Weiluo and Wang, Liwei},
            journal={Nature Machine Intelligence},
            volume={6},
            pages={209--219},
            year={2024},
        }
        ```
    """

    stack: Float[Array, "rows n m"]
    axes: int = eqx.field(static=True)
    rows: Rows = eqx.field(static=True)

    @classmethod
    def constant(cls, value: Float[Array, "n m"]) -> "Jet":
        """A value without derivatives."""
        return cls(value[None], 0, ())

    @classmethod
    def seed(cls, points: Float[Array, "n d"], rows: Rows = ()) -> "Jet":
        """The coordinates themselves, with their derivatives."""
        n, d = points.shape
        # A ternary of constants: broadcasts of them cost nothing once compiled.
        first = jnp.broadcast_to(jnp.eye(d, dtype=points.dtype)[:, None, :], (d, n, d))
        second = jnp.zeros((len(rows), n, d), points.dtype)
        return cls(jnp.concatenate([points[None], first, second]), d, rows)

    @property
    def value(self) -> Float[Array, "n m"]:
        """$u$."""
        return self.stack[0]

    @property
    def first(self) -> Float[Array, "d n m"]:
        r"""$\partial_i u$, one for each axis."""
        return self.stack[1 : 1 + self.axes]

    @property
    def second(self) -> Float[Array, "k n m"]:
        """The sums of second derivatives, one for each of `rows`."""
        return self.stack[1 + self.axes :]

    def along(self, axis: int) -> Float[Array, "n m"]:
        r"""$\partial_i u$."""
        if not 0 <= axis < self.axes:
            raise ValueError(f"There is no derivative along axis {axis}; the axes are 0 to {self.axes - 1}.")
        return self.stack[1 + axis]

    def mixed(self, i: int, j: int) -> Float[Array, "n m"]:
        r"""$\partial_i \partial_j u$."""
        for row in (((i, j),), ((j, i),)):
            if row in self.rows:
                return self.second[self.rows.index(row)]
        raise ValueError(
            f"The second derivative ({i}, {j}) was not asked for; there are {list(self.rows)}. "
            "Name it among the second derivatives that the equation needs."
        )

    def laplacian(self, axes: Sequence[int] | None = None) -> Float[Array, "n m"]:
        r"""$\sum_i \partial_i^2 u$ over some axes, by default all."""
        axes = range(self.axes) if axes is None else axes
        if laplacian(axes) in self.rows:
            return self.second[self.rows.index(laplacian(axes))]
        total = self.mixed(axes[0], axes[0])
        for axis in axes[1:]:
            total = total + self.mixed(axis, axis)
        return total

    def linear(self, w: Float[Array, "m k"], b: Float[Array, " k"] | None = None) -> "Jet":
        """An affine map of each row of values: one product for the values and all derivatives."""
        rows, n, m = self.stack.shape
        product = (self.stack.reshape(rows * n, m) @ w).reshape(rows, n, w.shape[1])
        if b is None:
            return Jet(product, self.axes, self.rows)
        bias = jnp.zeros((rows, 1, w.shape[1]), w.dtype).at[0, 0].set(b)
        return Jet(product + bias, self.axes, self.rows)

    def elementwise(
        self, f: Callable[[Array], tuple[Array, Array, Array]], shift: Float[Array, " m"] | None = None
    ) -> "Jet":
        """Of a function that returns its value and its first and second derivative.

        A constant `shift` is added first: to the value alone, which is cheaper than a bias in all rows.
        """
        # Row by row: slices of several rows would be copied once more.
        value, *rows = [self.stack[i] for i in range(self.stack.shape[0])]
        value, slope, curvature = f(value if shift is None else value + shift[None])
        first = rows[: self.axes]
        new = [value] + [slope * tangent for tangent in first]
        for pairs, second in zip(self.rows, rows[self.axes :], strict=True):
            new.append(slope * second + curvature * _total([first[i] * first[j] for i, j in pairs]))
        return Jet(jnp.stack(new), self.axes, self.rows)

    def times(self, other: "Jet") -> "Jet":
        """The product of two functions, by the product rule."""
        a, b = self, other
        parts = [(a.value * b.value)[None], a.first * b.value[None] + a.value[None] * b.first]
        if self.rows:
            cross = self._products(a.first, b.first) + self._products(b.first, a.first)
            parts.append(a.second * b.value[None] + a.value[None] * b.second + cross)
        return Jet(jnp.concatenate(parts), self.axes, self.rows)

    def plus(self, other: "Jet") -> "Jet":
        """The sum of two functions."""
        return Jet(self.stack + other.stack, self.axes, self.rows)

    def through(self, function: Callable[[Float[Array, "n m"]], Float[Array, "n k"]]) -> "Jet":
        """Of any function of rows of values, by nested forward-mode derivatives."""
        value = self.value

        def push(x: Array, tangent: Array) -> Array:
            return jax.jvp(function, (x,), (tangent,))[1]

        rows = [function(value)]
        rows += [push(value, tangent) for tangent in self.first]
        for pairs, second in zip(self.rows, self.second, strict=True):
            total = push(value, second)
            for i, j in pairs:
                inner = self.first[j]
                total = total + jax.jvp(lambda x, t=inner: push(x, t), (value,), (self.first[i],))[1]
            rows.append(total)
        return Jet(jnp.stack(rows), self.axes, self.rows)

    def taylor(self, function: Callable[[Float[Array, "n m"]], Float[Array, "n k"]]) -> "Jet":
        """Of any function of rows of values, by Taylor-mode derivatives along lines.

        A mixed derivative is a difference of two along diagonals,
        $4 \\partial_i \\partial_j = (\\partial_i + \\partial_j)^2 - (\\partial_i - \\partial_j)^2$.
        """
        from jax.experimental.jet import jet

        value = self.value

        def curve(first: Array, second: Array) -> tuple[Array, Array]:
            _, (slope, curvature) = jet(function, (value,), ((first, second),))
            return slope, curvature

        zero = jnp.zeros_like(value)
        rows = [function(value)]
        rows += [curve(tangent, zero)[0] for tangent in self.first]
        for pairs, second in zip(self.rows, self.second, strict=True):
            total = curve(second, zero)[0]
            for i, j in pairs:
                a, b = self.first[i], self.first[j]
                if i == j:
                    total = total + curve(a, zero)[1]
                else:
                    total = total + (curve(a + b, zero)[1] - curve(a - b, zero)[1]) / 4
            rows.append(total)
        return Jet(jnp.stack(rows), self.axes, self.rows)

    def forward_laplacian(self, function: Callable[[Float[Array, "n m"]], Float[Array, "n k"]]) -> "Jet":
        """Of any function of rows of values, each row by itself, by the forward Laplacian of
        [folx](https://github.com/microsoft/folx).

        It sums second derivatives along any directions; of a mixed one these are diagonals, as in `taylor`.
        """
        folx = folx_module()

        def pushed(value: Array, directions: Array, second: Array) -> tuple[Array, Array, Array]:
            seed = folx.api.FwdLaplArray(value, folx.api.FwdJacobian(directions), second)
            found = folx.forward_laplacian(lambda x: function(x[None])[0])(seed)
            return found.x, found.jacobian.dense_array, found.laplacian

        def sums(directions: list[Array], second: Array) -> tuple[Array, Array, Array]:
            with usual_promotion():
                return jax.vmap(pushed, (0, 1, 0), (0, 1, 0))(self.value, jnp.stack(directions), second)

        axes, nothing, every = list(self.first), jnp.zeros_like(self.value), laplacian(range(self.axes))
        known, seconds = None, []
        for pairs, second in zip(self.rows, self.second, strict=True):
            found = sums([axes[i] for i, j in pairs if i == j] or [nothing], second)
            known, total = found if pairs == every else known, found[2]
            crossed = [(axes[i], axes[j]) for i, j in pairs if i != j]
            if crossed:
                plus, minus = (sums([a + s * b for a, b in crossed], nothing)[2] for s in (1, -1))
                total = total + (plus - minus) / 4
            seconds.append(total[None])
        if known is None:
            known = sums(axes or [nothing], nothing)
        return Jet(jnp.concatenate([known[0][None], known[1][: self.axes], *seconds]), self.axes, self.rows)

    def _products(self, a: Float[Array, "d n m"], b: Float[Array, "d n m"]) -> Float[Array, "k n m"]:
        return jnp.stack([_total([a[i] * b[j] for i, j in pairs]) for pairs in self.rows])


def _total(terms: Sequence[Array]) -> Array:
    return sum(terms[1:], start=terms[0])
