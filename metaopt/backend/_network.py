"""The network that is applied to every parameter."""

from collections.abc import Sequence

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Float, PRNGKeyArray


class Layer(eqx.Module):
    """A dense layer $W x + b$ that acts on the leading axis."""

    weight: Float[Array, "out in"]
    bias: Float[Array, " out"]

    def __call__(self, x: Float[Array, "in n"]) -> Float[Array, "out n"]:
        return self.weight @ x + self.bias[:, None]

    @staticmethod
    def create(outputs: int, inputs: int, *, scale: float = 1.0, key: PRNGKeyArray) -> "Layer":
        r"""Draw weights from a normal distribution of standard deviation `scale` $/ \sqrt{\mathrm{inputs}}$, truncated
        at two of them; biases are zero."""
        dtype = jnp.result_type(float)
        weight = jr.truncated_normal(key, -2, 2, (outputs, inputs), dtype) * (scale / inputs**0.5)
        return Layer(weight, jnp.zeros(outputs, dtype))


class Network(eqx.Module):
    """Dense layers with rectified linear units between them, features first: inputs are `[features, n]`."""

    layers: tuple[Layer, ...]

    def __call__(self, x: Float[Array, "in n"]) -> Float[Array, "out n"]:
        for layer in self.layers[:-1]:
            x = jax.nn.relu(layer(x))
        return self.layers[-1](x)

    @staticmethod
    def create(sizes: Sequence[int], *, output_scale: float = 1.0, key: PRNGKeyArray) -> "Network":
        """Make a network of the given layer sizes, inputs first.

        **Arguments:**

        - `sizes`: inputs, hidden sizes, outputs.
        - `output_scale`: scales the weights of the last layer; a small one makes a network that says almost nothing.
        - `key`: draws the weights.

        **Raises:**

        - `ValueError`: if there are fewer than two sizes, or one is below 1.
        """
        if len(sizes) < 2 or min(sizes) < 1:
            raise ValueError(f"A network needs at least two sizes of at least 1, but {tuple(sizes)} were given.")
        keys = jr.split(key, len(sizes) - 1)
        scales = [1.0] * (len(sizes) - 2) + [output_scale]
        return Network(
            tuple(
                Layer.create(outputs, inputs, scale=scale, key=k)
                for inputs, outputs, scale, k in zip(sizes[:-1], sizes[1:], scales, keys, strict=True)
            )
        )
