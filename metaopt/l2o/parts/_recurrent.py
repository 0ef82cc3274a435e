"""Recurrent networks over parameters, features first."""

import math
from collections.abc import Sequence

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import jax.tree_util as jtu
from jaxtyping import Array, Float, PRNGKeyArray

from ...backend import Layer


# Tensors of together up to this size go through a network as one matrix.
TOGETHER = 16384


class LSTMLayer(eqx.Module):
    r"""A layer of long short-term memory, with a forget gate that starts open.

    $$i, g, f, o = W x + U h + b, \qquad c \leftarrow \sigma(f + 1) c + \sigma(i) \tanh g, \qquad
      h \leftarrow \sigma(o) \tanh c$$
    """

    inputs: Layer
    recurrent: Float[Array, "gates hidden"]

    def __call__(self, state: Float[Array, "2 hidden n"], x: Float[Array, "in n"]) -> Float[Array, "2 hidden n"]:
        hidden, cell = state
        i, g, f, o = jnp.split(self.inputs(x) + self.recurrent @ hidden, 4)
        cell = jax.nn.sigmoid(f + 1) * cell + jax.nn.sigmoid(i) * jnp.tanh(g)
        return jnp.stack([jax.nn.sigmoid(o) * jnp.tanh(cell), cell])

    @staticmethod
    def create(inputs: int, hidden: int, *, key: PRNGKeyArray) -> "LSTMLayer":
        layer = Layer.create(4 * hidden, inputs + hidden, key=key)
        return LSTMLayer(Layer(layer.weight[:, :inputs], layer.bias), layer.weight[:, inputs:])


class Recurrent(eqx.Module):
    """Layers of long short-term memory and a readout.

    The last inputs may be a context that all elements share; it is folded into the bias of the first layer.
    """

    layers: tuple[LSTMLayer, ...]
    readout: Layer

    def __call__(
        self, state: Float[Array, "layers 2 hidden n"], x: Float[Array, "in n"], context: Float[Array, " context"]
    ) -> tuple[Float[Array, "layers 2 hidden n"], Float[Array, "out n"]]:
        new = []
        for index, layer in enumerate(self.layers):
            layer = _fold(layer, context) if index == 0 else layer
            new.append(layer(state[index], x))
            x = new[-1][0]
        return jnp.stack(new), self.readout(x)

    @staticmethod
    def create(
        inputs: int, hidden: int, layers: int, outputs: int, *, output_scale: float, key: PRNGKeyArray
    ) -> "Recurrent":
        """Draw the weights.

        **Raises:**

        - `ValueError`: if there is no layer, or a layer has no unit.
        """
        if layers < 1 or hidden < 1:
            raise ValueError(f"At least 1 layer of at least 1 unit is needed, but {layers} of {hidden} were given.")
        *keys, last = jr.split(key, layers + 1)
        sizes = [inputs, *[hidden] * (layers - 1)]
        return Recurrent(
            tuple(LSTMLayer.create(size, hidden, key=k) for size, k in zip(sizes, keys, strict=True)),
            Layer.create(outputs, hidden, scale=output_scale, key=last),
        )

    def init(self, param: Float[Array, "*p"]) -> Float[Array, "layers 2 hidden *p"]:
        """A state of zeros for one tensor."""
        return jnp.zeros((len(self.layers), 2, self.layers[0].recurrent.shape[1], *param.shape), param.dtype)


def _fold(layer: LSTMLayer, context: Float[Array, " context"]) -> LSTMLayer:
    own = layer.inputs.weight.shape[1] - context.shape[0]
    weight, bias = layer.inputs.weight, layer.inputs.bias
    return LSTMLayer(Layer(weight[:, :own], bias + weight[:, own:] @ context), layer.recurrent)


def apply(
    network: Recurrent,
    states: Sequence[Float[Array, "layers 2 hidden ..."]],
    features: Sequence[Sequence[Float[Array, "..."]]],
    context: Float[Array, " context"],
) -> tuple[list[Float[Array, "layers 2 hidden ..."]], list[list[Float[Array, "..."]]]]:
    """Apply a network to every element of every tensor. Small tensors go through it together.

    **Arguments:**

    - `network`: the network.
    - `states`: one per tensor.
    - `features`: of each tensor, a list of arrays of its shape.
    - `context`: features that all elements share.

    **Returns:**

    The new states, and of each tensor the list of the network's outputs.
    """
    new: dict[int, Array] = {}
    outputs: dict[int, list[Array]] = {}
    for group in _groups(features):
        shapes = [features[index][0].shape for index in group]
        x = jnp.concatenate([jnp.stack(list(features[i])).reshape(len(features[i]), -1) for i in group], axis=1)
        state = jnp.concatenate([states[i].reshape(*states[i].shape[:3], -1) for i in group], axis=3)
        cast, own = jtu.tree_map(lambda leaf: leaf.astype(x.dtype), (network, context))
        state, out = cast(state, x, own)
        stops = [0]
        for index, shape in zip(group, shapes, strict=True):
            stops.append(stops[-1] + math.prod(shape))
            start, stop = stops[-2:]
            new[index] = state[..., start:stop].reshape(*state.shape[:3], *shape)
            outputs[index] = [row[start:stop].reshape(shape) for row in out]
    return [new[i] for i in range(len(states))], [outputs[i] for i in range(len(states))]


def _groups(features: Sequence[Sequence[Array]]) -> list[list[int]]:
    groups: list[list[int]] = []
    room: dict[str, tuple[list[int], int]] = {}
    for index, (first, *_) in enumerate(features):
        group, left = room.get(str(first.dtype), ([], -1))
        if first.size > left:
            group, left = [], max(TOGETHER, first.size)
            groups.append(group)
        group.append(index)
        room[str(first.dtype)] = (group, left - first.size)
    return groups
