"""Where the examples of a supervised task come from."""

import abc
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Float, Int, PRNGKeyArray

from .._common import draw_indices, rows
from ._dataset import Dataset
from ._text import ALPHABET


Targets = Int[Array, " n"] | Float[Array, "n outputs"]
_MEASURED = 1024


class AbstractSource(eqx.Module):
    """A distribution of pairs of inputs and targets. What distinguishes one task of a family from another are its
    leaves. Targets are class numbers, or vectors."""

    @property
    @abc.abstractmethod
    def inputs(self) -> int:
        """The length of a row of inputs."""

    @property
    @abc.abstractmethod
    def outputs(self) -> int:
        """The number of classes, or the length of a row of targets."""

    @abc.abstractmethod
    def batch(self, size: int, *, key: PRNGKeyArray) -> tuple[Float[Array, "n inputs"], Targets]:
        """Draw a minibatch, with replacement."""

    @abc.abstractmethod
    def measured(self) -> tuple[Float[Array, "n inputs"], Targets]:
        """The examples that `measure` looks at: all, or a fixed set of 1024."""


class LabelledSource(AbstractSource):
    """A labelled data set whose classes are renamed and whose inputs are scaled.

    **Arguments:**

    - `data`: has rows `inputs`, and `labels` below `outputs`.
    - `names`: the new number of each class.
    - `scales`: factors of the inputs. If they differ by orders of magnitude, the task is badly conditioned.
    """

    data: Dataset = eqx.field(static=True)
    names: Int[Array, " classes"]
    scales: Float[Array, " inputs"]

    @property
    def inputs(self) -> int:
        return self.data["inputs"].shape[1]

    @property
    def outputs(self) -> int:
        return self.names.shape[0]

    def batch(self, size: int, *, key: PRNGKeyArray) -> tuple[Float[Array, "n inputs"], Targets]:
        return self._rows(draw_indices(self.data["inputs"].shape[0], size, key=key))

    def measured(self) -> tuple[Float[Array, "n inputs"], Targets]:
        return self._rows(_spread(self.data["inputs"].shape[0]))

    def _rows(self, indices: Int[Array, " n"]) -> tuple[Float[Array, "n inputs"], Targets]:
        inputs = rows(jnp.asarray(self.data["inputs"]), indices) * self.scales[None]
        return inputs, rows(self.names, rows(jnp.asarray(self.data["labels"]), indices))


class SelfSource(AbstractSource):
    """The inputs of a data set as their own targets, for autoencoders.

    **Arguments:**

    - `data`: has rows `inputs`.
    - `scales`: factors of the inputs that the network sees; targets are not scaled.
    """

    data: Dataset = eqx.field(static=True)
    scales: Float[Array, " inputs"]

    @property
    def inputs(self) -> int:
        return self.data["inputs"].shape[1]

    @property
    def outputs(self) -> int:
        return self.inputs

    def batch(self, size: int, *, key: PRNGKeyArray) -> tuple[Float[Array, "n inputs"], Targets]:
        return self._rows(draw_indices(self.data["inputs"].shape[0], size, key=key))

    def measured(self) -> tuple[Float[Array, "n inputs"], Targets]:
        return self._rows(_spread(self.data["inputs"].shape[0]))

    def _rows(self, indices: Int[Array, " n"]) -> tuple[Float[Array, "n inputs"], Targets]:
        found = rows(jnp.asarray(self.data["inputs"]), indices)
        return found * self.scales[None], found


class WaveSource(AbstractSource):
    r"""A random smooth function: $y = A \sin(W x + b)$ with $x \sim N(0, \mathrm{diag}(s)^2)$, fresh each time.

    **Arguments:**

    - `amplitudes`, `frequencies`, `phases`: $A$, $W$ and $b$.
    - `scales`: $s$.
    - `measure_key`: draws the fixed set.
    """

    amplitudes: Float[Array, "outputs waves"]
    frequencies: Float[Array, "waves inputs"]
    phases: Float[Array, " waves"]
    scales: Float[Array, " inputs"]
    measure_key: PRNGKeyArray

    @property
    def inputs(self) -> int:
        return self.scales.shape[-1]

    @property
    def outputs(self) -> int:
        return self.amplitudes.shape[-2]

    def batch(self, size: int, *, key: PRNGKeyArray) -> tuple[Float[Array, "n inputs"], Targets]:
        x = jr.normal(key, (size, self.inputs), self.scales.dtype)
        # Frequencies are those of unscaled inputs: the function is as hard whatever the scales.
        return x * self.scales[None], jnp.sin(x @ self.frequencies.T + self.phases[None]) @ self.amplitudes.T

    def measured(self) -> tuple[Float[Array, "n inputs"], Targets]:
        return self.batch(_MEASURED, key=self.measure_key)


class TextSource(AbstractSource):
    """Predict the next character of a text from those before it, each a vector with a one.

    **Arguments:**

    - `data`: has an array `codes` of numbers below 28.
    - `names`: the new number of each character.
    - `context`: how many characters are seen.
    """

    data: Dataset = eqx.field(static=True)
    names: Int[Array, " characters"]
    context: int = eqx.field(static=True, default=8)

    @property
    def inputs(self) -> int:
        return self.context * len(ALPHABET)

    @property
    def outputs(self) -> int:
        return len(ALPHABET)

    def batch(self, size: int, *, key: PRNGKeyArray) -> tuple[Float[Array, "n inputs"], Targets]:
        return self._windows(draw_indices(self.data["codes"].shape[0] - self.context, size, key=key))

    def measured(self) -> tuple[Float[Array, "n inputs"], Targets]:
        return self._windows(_spread(self.data["codes"].shape[0] - self.context))

    def _windows(self, starts: Int[Array, " n"]) -> tuple[Float[Array, "n inputs"], Targets]:
        places = (starts[:, None] + jnp.arange(self.context + 1)[None]).ravel()
        found = rows(self.names, rows(jnp.asarray(self.data["codes"]), places)).reshape(starts.shape[0], -1)
        seen = jax.nn.one_hot(found[:, :-1], len(ALPHABET), dtype=jnp.result_type(float))
        return seen.reshape(starts.shape[0], -1), found[:, -1]


def _spread(size: int) -> Any:
    """Indices of all rows, or of 1024 evenly spread ones."""
    count = min(size, _MEASURED)
    return jnp.arange(count) * size // count
