"""The recurrent network that schedules: it sees a few features of a tensor, or of a run, once per step."""

from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Float, Int, PRNGKeyArray, PyTree

from ..._core.arrays._numbers import number
from ...backend import Layer
from ._progress import Losses
from ._recurrent import LSTMLayer


class ScheduledState(NamedTuple):
    """The state of a cell with one scheduler: what it has seen, and a substate per trainable leaf."""

    count: Int[Array, ""]  # pyright: ignore[reportIncompatibleMethodOverride]
    tensors: PyTree
    started: PyTree
    losses: Losses
    memory: Float[Array, "2 hidden"]


class Scheduler(eqx.Module):
    r"""A layer of long short-term memory for each of $n$ members, which see the largest of what all of them say.

    $$y_i = A x_i + a + \max_j \mathrm{relu}(B x_j + b), \qquad h_i \leftarrow \mathrm{LSTM}(h_i, y_i)$$

    What is said is read by a dense layer, `rate`.
    """

    reader: Layer
    mixer: Layer
    network: LSTMLayer
    rate: Layer
    first_memory: Float[Array, "2 hidden"]

    @staticmethod
    def create(inputs: int, hidden: int, *, key: PRNGKeyArray) -> "Scheduler":
        """Draw the weights.

        **Raises:**

        - `ValueError`: if there is no unit.
        """
        if hidden < 1:
            raise ValueError(f"At least 1 unit is needed, but {hidden} were given.")
        keys = jr.split(key, 4)
        return Scheduler(
            Layer.create(hidden, inputs, key=keys[0]),
            Layer.create(hidden, inputs, key=keys[1]),
            LSTMLayer.create(hidden, hidden, key=keys[2]),
            Layer.create(1, hidden, key=keys[3]),
            number([[0.0] * hidden] * 2),
        )

    @property
    def dtype(self) -> Any:
        """What is computed in."""
        return self.rate.bias.dtype

    def __call__(self, memory: Float[Array, "2 hidden n"], x: Float[Array, "in n"]) -> Float[Array, "2 hidden n"]:
        """The new memories; the first of both is what the network says."""
        mixed = jnp.max(jax.nn.relu(self.mixer(x)), axis=1, keepdims=True)
        return self.network(memory, self.reader(x) + mixed)

    def alone(
        self, memory: Float[Array, "2 hidden"], x: Float[Array, " in"]
    ) -> tuple[Float[Array, "2 hidden"], Float[Array, ""]]:
        r"""The new memory of a single member, and $\rho = e^r / 10$ with its rate $r$."""
        new = self(memory[:, :, None], x[:, None])
        return new[:, :, 0], jnp.exp(self.rate(new[0])[0, 0]) / 10
