"""The per-parameter MLP, against its formula in NumPy."""

from collections.abc import Callable

import numpy as np
import pytest
from jaxtyping import Array

from metaopt.l2o import MLP, AdamHead, HorizonClock, PlainHead
from tests.l2o._cells import TANH_TIMES, arrays, decays, f64, perceptron, shaken, steps


def by_formula(cell: MLP, param: np.ndarray, grads: list[np.ndarray]) -> np.ndarray:
    assert isinstance(cell.head, PlainHead)
    momenta = [np.zeros_like(param) for _ in range(cell.momentum_decays.size)]
    for t, grad in enumerate(grads):
        momenta = [b * m + (1 - b) * grad for b, m in zip(decays(cell.momentum_decays), momenta, strict=True)]
        features = [grad, param, *momenta]
        features = [f / np.sqrt(np.mean(f**2) + 1e-5) for f in features]
        time = [np.full(param.shape, c) for c in np.tanh(t / TANH_TIMES - 1)]
        out = perceptron(cell.network, np.stack(features + time, axis=-1))
        scales = float(cell.head.direction_scale), float(cell.head.magnitude_scale)
        param = param - out[..., 0] * np.exp(out[..., 1] * scales[1]) * scales[0]
    return param


@pytest.mark.parametrize("layers", [pytest.param(1, marks=pytest.mark.slow), 2])
def test_it_is_its_formula(layers: int, x64: None, getkey: Callable[[], Array]) -> None:
    cell = shaken(MLP(6, layers), getkey())
    params, grads = arrays(getkey()), [arrays(getkey(), 0.3) for _ in range(3)]
    _, found = steps(cell, params, grads)
    for name, param in f64(params).items():
        wanted = by_formula(cell, param, [f64(grad[name]) for grad in grads])
        np.testing.assert_allclose(found[name], wanted, rtol=1e-10)


def test_published_sizes_and_constants() -> None:
    cell = MLP()
    assert [layer.weight.shape for layer in cell.network.layers] == [(32, 19), (32, 32), (2, 32)]
    np.testing.assert_allclose(decays(cell.momentum_decays), [0.1, 0.5, 0.9, 0.99, 0.999, 0.9999], rtol=1e-5)
    assert isinstance(cell.head, PlainHead)
    np.testing.assert_allclose([cell.head.direction_scale, cell.head.magnitude_scale], [1e-3, 1e-3])


def test_head_and_clock_add_their_inputs() -> None:
    cell = MLP(4, head=AdamHead(), clock=HorizonClock())
    # Ten features of its own less the eleven of time: 8, with 4 signals of the head and 6 of the clock.
    assert cell.network.layers[0].weight.shape == (4, 8 + 4 + 6)
    assert cell.network.layers[-1].weight.shape == (5, 4)


def test_decays_are_checked() -> None:
    with pytest.raises(ValueError, match="`momentum_decays` must be at least 0 and less than 1"):
        MLP(momentum_decays=(0.9, 1.0))
