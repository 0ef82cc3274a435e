"""The MLP with Adafactor features, against its formula in NumPy."""

from collections.abc import Callable

import jax.numpy as jnp
import numpy as np
import pytest
from jaxtyping import Array

from metaopt.backend import XLA
from metaopt.l2o import AdafacMLP, PlainHead
from tests._cases import fast
from tests.l2o._cells import TANH_TIMES, arrays, decays, f64, perceptron, shaken, steps


def root(x: np.ndarray) -> np.ndarray:
    return np.maximum(x, 1e-9) ** -0.5


class Reference:
    """One tensor, in the words of the paper's code: every feature is an array of full shape."""

    def __init__(self, cell: AdafacMLP, param: np.ndarray):
        self.cell, self.param, self.t = cell, param, 0
        self.m = [np.zeros_like(param)] * 3
        self.v = np.zeros_like(param)
        order = np.argsort(param.shape, kind="stable")
        self.axes = None if param.ndim < 2 else (int(order[-2]), int(order[-1]))
        self.rows: list[np.ndarray] = [np.zeros(())] * 3
        self.cols: list[np.ndarray] = [np.zeros(())] * 3

    def adafactor(self, grad: np.ndarray, k: int, beta: float) -> tuple[np.ndarray, ...]:
        square, m = grad**2 + 1e-30, self.m[k]
        if self.axes is None:
            self.rows[k] = beta * self.rows[k] + (1 - beta) * square
            v = self.rows[k]
            return grad * root(v + 1e-9), v, v, m * (v + 1e-6) ** -0.5
        d1, d0 = self.axes
        self.rows[k] = beta * self.rows[k] + (1 - beta) * square.mean(axis=d0)
        self.cols[k] = beta * self.cols[k] + (1 - beta) * square.mean(axis=d1)
        mean = self.rows[k].mean(axis=d1 - 1 if d1 > d0 else d1, keepdims=True)
        factor = np.expand_dims(root(self.rows[k] / (mean + 1e-9)), d0) * np.expand_dims(root(self.cols[k]), d1)
        full = [np.broadcast_to(np.expand_dims(x, d), grad.shape) for x, d in ((self.rows[k], d0), (self.cols[k], d1))]
        return grad * factor, full[0], full[1], m * factor

    def features(self, grad: np.ndarray) -> list[np.ndarray]:
        cell = self.cell
        self.m = [b * m + (1 - b) * grad for b, m in zip(decays(cell.momentum_decays), self.m, strict=True)]
        beta = float(decays(cell.second_decay))
        self.v = beta * self.v + (1 - beta) * grad**2
        inverse = (self.v + 1e-6) ** -0.5
        factored = [self.adafactor(grad, k, float(b)) for k, b in enumerate(decays(cell.factored_decays))]
        scaled, rows, cols, momenta = ([f[i] for f in factored] for i in range(4))
        table = [grad, self.param, *self.m, self.v, *[m * inverse for m in self.m], inverse, *scaled, *rows, *cols]
        return table + [(x + 1e-8) ** -0.5 for x in rows] + [(x + 1e-8) ** -0.5 for x in cols] + momenta

    def step(self, grad: np.ndarray) -> None:
        head = self.cell.head
        assert isinstance(head, PlainHead)
        features = [f / np.sqrt(np.mean(f**2) + 1e-5) for f in self.features(grad)]
        assert len(features) == 28
        time = [np.full(grad.shape, c) for c in np.tanh(self.t / TANH_TIMES - 1)]
        out = perceptron(self.cell.network, np.stack(features + time, axis=-1))
        size = np.exp(out[..., 1] * float(head.magnitude_scale)) * float(head.direction_scale)
        self.param, self.t = self.param - out[..., 0] * size, self.t + 1


BACKENDS = {"default": XLA(), "tiled": XLA(block=16, unroll=0), "unrolled": XLA(block=16)}


@pytest.mark.parametrize("backend", fast(BACKENDS, "default"))
def test_it_is_its_formula(backend: XLA, x64: None, getkey: Callable[[], Array]) -> None:
    cell = shaken(AdafacMLP(4, backend=backend), getkey())
    params, grads = arrays(getkey()), [arrays(getkey(), 0.3) for _ in range(3)]
    _, found = steps(cell, params, grads)
    for name, param in f64(params).items():
        reference = Reference(cell, param)
        for grad in grads:
            reference.step(f64(grad[name]))
        np.testing.assert_allclose(found[name], reference.param, rtol=1e-9)


@pytest.mark.slow
@pytest.mark.parametrize("hidden", [4, pytest.param(32, marks=pytest.mark.slow)])
def test_a_large_matrix(hidden: int, getkey: Callable[[], Array]) -> None:
    cell = AdafacMLP(hidden, key=getkey())
    param, grad = jnp.ones((150, 170)), {"w": 0.1 + arrays(getkey())["matrix"][0, 0] * jnp.ones((150, 170))}
    grad["w"] = grad["w"] * jnp.linspace(-1, 1, 150)[:, None] * jnp.cos(jnp.arange(170.0))[None, :]
    _, found = steps(cell, {"w": param}, [grad, grad])
    reference = Reference(cell, f64(param))
    for _ in range(2):
        reference.step(f64(grad["w"]))
    change = np.abs(reference.param - f64(param)).max()
    np.testing.assert_allclose(found["w"], reference.param, rtol=0, atol=2e-4 * change + 2e-7)


def test_published_sizes_and_memory() -> None:
    cell = AdafacMLP()
    assert [layer.weight.shape for layer in cell.network.layers] == [(32, 39), (32, 32), (2, 32)]
    tensors = cell.init({"w": jnp.ones((30, 20)), "b": jnp.ones(20)}).tensors
    matrix, vector = tensors["w"].averages, tensors["b"].averages
    assert matrix.rows.shape == (3, 1, 20) and matrix.cols.shape == (3, 30, 1)
    assert matrix.elements.momenta.shape == (3, 30, 20) and matrix.elements.second.shape == (30, 20)
    assert vector.rows.shape == (3, 20) and vector.cols is None


def test_momenta_and_factors_come_in_pairs() -> None:
    with pytest.raises(ValueError, match="used in pairs, but 2 and 3"):
        AdafacMLP(momentum_decays=(0.9, 0.99))
