"""Manufactured solutions: sines of plane waves, with their derivatives written out."""

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float

from metaopt.physics import AbstractField, Jet


class Waves(eqx.Module):
    """Component $c$ is $A_c \\sin(k_c \\cdot x + b_c)$."""

    amplitudes: Float[Array, " m"]
    vectors: Float[Array, "m d"]
    phases: Float[Array, " m"]

    def _angle(self, x: Float[Array, "n d"]) -> Float[Array, "n m"]:
        return x @ self.vectors.T + self.phases[None]

    def __call__(self, x: Float[Array, "n d"]) -> Float[Array, "n m"]:
        return self.amplitudes[None] * jnp.sin(self._angle(x))

    def first(self, x: Float[Array, "n d"], axis: int) -> Float[Array, "n m"]:
        return (self.amplitudes * self.vectors[:, axis])[None] * jnp.cos(self._angle(x))

    def second(self, x: Float[Array, "n d"], i: int, j: int) -> Float[Array, "n m"]:
        return -(self.vectors[:, i] * self.vectors[:, j])[None] * self(x)

    def laplacian(self, x: Float[Array, "n d"], axes: range) -> Float[Array, "n m"]:
        return sum((self.second(x, i, i) for i in axes), start=jnp.zeros_like(self(x)))


class Known(AbstractField):
    """A field that is a known function; its one parameter counts for nothing."""

    function: Waves

    @property
    def inputs(self) -> int:
        return self.function.vectors.shape[1]

    @property
    def outputs(self) -> int:
        return self.function.vectors.shape[0]

    def init(self, *, key):
        return {"unused": jnp.zeros(1)}

    def push(self, params, jet: Jet) -> Jet:
        return jet.through(self.function)
