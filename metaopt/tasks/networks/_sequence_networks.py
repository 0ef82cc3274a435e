"""Networks that read their inputs as sequences."""

import math
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from .._common import check_sizes
from ._networks import AbstractNetwork, Layers, affine, draw_layers


class RecurrentNetwork(AbstractNetwork):
    r"""A gated recurrent unit that reads a sequence, and a dense layer that reads its last state.

    $$z, r = \sigma(W_{zr} (x_t, h) + b_{zr}), \qquad n = \tanh(W_n (x_t, r \odot h) + b_n), \qquad
      h \leftarrow z \odot h + (1 - z) \odot n$$

    **Arguments:**

    - `steps`: the length of the sequence.
    - `size`: numbers per step; a row of inputs holds the steps one after the other.
    - `hidden`: units of the state.
    - `outputs`: the size of the output.
    """

    steps: int = eqx.field(static=True)
    size: int = eqx.field(static=True)
    hidden: int = eqx.field(static=True)
    outputs: int = eqx.field(static=True)

    def __check_init__(self) -> None:
        check_sizes("(steps, size, hidden, outputs)", (self.steps, self.size, self.hidden, self.outputs))

    @property
    def inputs(self) -> int:
        return self.steps * self.size

    def init(self, *, key: PRNGKeyArray) -> Layers:
        joined = self.size + self.hidden
        return draw_layers([(joined, 2 * self.hidden), (joined, self.hidden), (self.hidden, self.outputs)], key=key)

    def apply(self, params: Layers, inputs: Float[Array, "n inputs"]) -> Float[Array, "n outputs"]:
        gates, candidate, readout = params
        sequence = inputs.astype(gates["w"].dtype).reshape(-1, self.steps, self.size)
        state = jnp.zeros((sequence.shape[0], self.hidden), sequence.dtype)
        # Written out: a loop in the loop of the steps costs more than it saves for the few steps there are.
        for step in range(self.steps):
            x = sequence[:, step]
            keep, reset = jnp.split(jax.nn.sigmoid(affine(gates, jnp.concatenate([x, state], 1))), 2, axis=1)
            new = jnp.tanh(affine(candidate, jnp.concatenate([x, reset * state], 1)))
            state = keep * state + (1 - keep) * new
        return affine(readout, state)


class AttentionNetwork(AbstractNetwork):
    r"""A small transformer: embedding, learned positions, blocks of attention and a dense layer, and a readout.

    With $\mathrm{norm}$ dividing by the root mean square,

    $$h \leftarrow h + \mathrm{attention}(\mathrm{norm}(h)) W_o, \qquad
      h \leftarrow h + W_2 \, \mathrm{gelu}(W_1 \mathrm{norm}(h))$$

    and the output is read from the norm of the last position. Every position sees those before it.

    **Arguments:**

    - `steps`: the length of the sequence.
    - `size`: numbers per step; a row of inputs holds the steps one after the other.
    - `width`: of a position; a multiple of `heads`.
    - `blocks`: how many there are.
    - `outputs`: the size of the output.
    - `heads`: of attention.
    """

    steps: int = eqx.field(static=True)
    size: int = eqx.field(static=True)
    width: int = eqx.field(static=True)
    blocks: int = eqx.field(static=True)
    outputs: int = eqx.field(static=True)
    heads: int = eqx.field(static=True, default=2)

    def __check_init__(self) -> None:
        sizes = (self.steps, self.size, self.width, self.blocks, self.outputs, self.heads)
        check_sizes("(steps, size, width, blocks, outputs, heads)", sizes)
        if self.width % self.heads:
            raise ValueError(f"`width` must be a multiple of `heads`, but {self.width} and {self.heads} were given.")

    @property
    def inputs(self) -> int:
        return self.steps * self.size

    def init(self, *, key: PRNGKeyArray) -> Layers:
        w = self.width
        block = [(w, 3 * w), (w, w), (w, 2 * w), (2 * w, w)]
        layers = draw_layers([(self.size, w), *block * self.blocks, (w, self.outputs)], key=key)
        embedding, *rest = layers
        return ({**embedding, "positions": jnp.zeros((self.steps, w), embedding["w"].dtype)}, *rest)

    def apply(self, params: Layers, inputs: Float[Array, "n inputs"]) -> Float[Array, "n outputs"]:
        embedding, *blocks, readout = params
        x = affine(embedding, inputs.reshape(-1, self.size)).reshape(-1, self.steps, self.width)
        x = x + embedding["positions"][None]
        for index in range(self.blocks):
            qkv, out, widen, narrow = blocks[4 * index : 4 * index + 4]
            x = x + _dense(out, attend(_dense(qkv, _norm(x)), self.heads, causal=True))
            x = x + _dense(narrow, jax.nn.gelu(_dense(widen, _norm(x))))
        return affine(readout, _norm(x[:, -1]))


def attend(qkv: Float[Array, "n steps triple"], heads: int, *, causal: bool) -> Float[Array, "n steps width"]:
    r"""$\mathrm{softmax}(Q K^\top / \sqrt d) V$ in each head; if `causal`, of a position and those before it."""
    n, steps, triple = qkv.shape
    query, key, value = jnp.moveaxis(qkv.reshape(n, steps, 3, heads, -1), 2, 0)
    scores = jnp.einsum("nshd,nthd->nhst", query, key) / math.sqrt(query.shape[-1])
    if causal:
        seen = jnp.tril(jnp.ones((steps, steps), bool))
        scores = jnp.where(seen[None, None], scores, -1e9)
    return jnp.einsum("nhst,nthd->nshd", jax.nn.softmax(scores, axis=-1), value).reshape(n, steps, triple // 3)


def _dense(layer: dict[str, Any], x: Float[Array, "n steps a"]) -> Float[Array, "n steps b"]:
    return affine(layer, x.reshape(-1, x.shape[-1])).reshape(*x.shape[:2], -1)


def _norm(x: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    return x * jax.lax.rsqrt(jnp.mean(jnp.square(x), axis=-1, keepdims=True) + 1e-6)
