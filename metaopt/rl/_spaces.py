"""Actions, and networks that choose among them."""

import itertools as it
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Float, Int, PRNGKeyArray

from .._core.arrays._numbers import check_counts


class Discrete(eqx.Module):
    """A choice among `count` actions, numbered from zero."""

    count: int = eqx.field(static=True)

    def __check_init__(self) -> None:
        check_counts(count=self.count)

    @property
    def outputs(self) -> int:
        """How many numbers a network says about an observation."""
        return self.count

    def greedy(self, output: Float[Array, " outputs"]) -> Int[Array, ""]:
        """The action with the highest number."""
        return jnp.argmax(output).astype(jnp.int32)

    def sample(self, *, key: PRNGKeyArray) -> Int[Array, ""]:
        """A random action."""
        return jr.randint(key, (), 0, self.count, jnp.int32)

    def distribution(self, output: Float[Array, " outputs"], log_std: Float[Array, "..."]) -> Any:
        """A policy, as a distribution of `tensorflow_probability`."""
        from tensorflow_probability.substrates import jax as tfp

        del log_std
        return tfp.distributions.Categorical(logits=output, dtype=jnp.int32)

    def real(self, action: Int[Array, ""]) -> Int[Array, ""]:
        """What the environment is given of a draw from the policy."""
        return action


class Box(eqx.Module):
    """Vectors of `size` numbers between `low` and `high`."""

    size: int = eqx.field(static=True)
    low: float = eqx.field(static=True, default=-1.0)
    high: float = eqx.field(static=True, default=1.0)

    def __check_init__(self) -> None:
        check_counts(size=self.size)
        if not self.low < self.high:
            raise ValueError(f"`low` must be below `high`, but {self.low} and {self.high} were given.")

    @property
    def outputs(self) -> int:
        """How many numbers a network says about an observation."""
        return self.size

    def greedy(self, output: Float[Array, " outputs"]) -> Float[Array, " outputs"]:
        """The vector that the network means, with -1 and 1 for the ends of the range."""
        return self.real(output)

    def sample(self, *, key: PRNGKeyArray) -> Float[Array, " outputs"]:
        """A random vector."""
        return jr.uniform(key, (self.size,), minval=self.low, maxval=self.high)

    def distribution(self, output: Float[Array, " outputs"], log_std: Float[Array, " outputs"]) -> Any:
        """A policy, as a distribution of `tensorflow_probability`."""
        from tensorflow_probability.substrates import jax as tfp

        return tfp.distributions.MultivariateNormalDiag(output, jnp.exp(log_std))

    def real(self, action: Float[Array, " outputs"]) -> Float[Array, " outputs"]:
        """What the environment is given of a draw from the policy."""
        return self.low + (self.high - self.low) * (jnp.clip(action, -1, 1) + 1) / 2


class Network(eqx.Module):
    """A multilayer perceptron."""

    weights: tuple[Float[Array, "outputs inputs"], ...]
    biases: tuple[Float[Array, " outputs"], ...]

    def __init__(self, sizes: tuple[int, ...], scale: float = 1.0, *, key: PRNGKeyArray):
        """**Arguments:**

        - `sizes`: of the input, the hidden layers and the output.
        - `scale`: of the weights of the last layer, relative to the others.
        - `key`: draws the weights.
        """
        shapes = list(zip(sizes[1:], sizes[:-1], strict=True))
        ends = list(it.accumulate(outputs * inputs for outputs, inputs in shapes))
        # Drawn at once: each draw is a program that takes time to compile.
        parts = jnp.split(jr.normal(key, (ends[-1],)), ends[:-1])
        scales = [(2 / inputs) ** 0.5 for _, inputs in shapes]
        scales[-1] *= scale
        self.weights = tuple(s * part.reshape(shape) for s, part, shape in zip(scales, parts, shapes, strict=True))
        self.biases = tuple(jnp.zeros(outputs) for outputs, _ in shapes)

    def __call__(self, x: Float[Array, " inputs"]) -> Float[Array, " outputs"]:
        for weight, bias in zip(self.weights[:-1], self.biases[:-1], strict=True):
            x = jax.nn.relu(weight @ x + bias)
        return self.weights[-1] @ x + self.biases[-1]


class Dueling(eqx.Module):
    r"""The values of actions, as one of the state and differences between the actions.

    $$Q(x, a) = V(x) + A(x, a) - \frac{1}{n} \sum_b A(x, b)$$

    ??? cite "Reference"

        ```bibtex
        @inproceedings{wang2016dueling,
          title={Dueling Network Architectures for Deep Reinforcement Learning},
          author={Wang, Ziyu and Schaul, Tom and Hessel, Matteo and Hasselt, Hado and Lanctot, Marc
                  and Freitas, Nando},
          booktitle={ICML}, year={2016}
        }
        ```
    """

    trunk: Network

    def __init__(self, sizes: tuple[int, ...], *, key: PRNGKeyArray):
        """**Arguments:**

        - `sizes`: of the observation, the hidden layers, and the number of actions.
        - `key`: draws the weights.
        """
        self.trunk = Network((*sizes[:-1], sizes[-1] + 1), key=key)

    def __call__(self, x: Float[Array, " inputs"]) -> Float[Array, " outputs"]:
        out = self.trunk(x)
        return out[0] + out[1:] - jnp.mean(out[1:])


class Actor(eqx.Module):
    """A network that acts without exploration."""

    network: Network | Dueling
    space: Discrete | Box

    def __call__(self, observation: Float[Array, " features"]) -> Array:
        return self.space.greedy(self.network(observation))
