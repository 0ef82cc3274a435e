"""LSTM and RNNProp, against their formulas in NumPy."""

from collections.abc import Callable

import jax.numpy as jnp
import numpy as np
import pytest
from jaxtyping import Array

from metaopt.l2o import LSTM, AdamHead, HorizonClock, LinearHead, RNNProp, TanhClock
from tests.l2o._cells import TANH_TIMES, arrays, decays, f64, lstm, shaken, steps


def preprocessed(grad: np.ndarray, p: float) -> np.ndarray:
    large = np.abs(grad) >= np.exp(-p)
    log = np.log(np.abs(grad) + (~large)) / p
    return np.stack([np.where(large, log, -1), np.where(large, np.sign(grad), np.exp(p) * grad)], axis=-1)


class Memory:
    """The hidden layers of one tensor."""

    def __init__(self, cell: LSTM | RNNProp, param: np.ndarray):
        size = cell.network.readout.weight.shape[1]
        self.network = cell.network
        self.states = [(np.zeros((*param.shape, size)),) * 2 for _ in self.network.layers]

    def read(self, x: np.ndarray) -> np.ndarray:
        for index, layer in enumerate(self.network.layers):
            memory, output = self.states[index]
            self.states[index] = lstm(layer, memory, output, x)
            x = self.states[index][0]
        return x @ np.asarray(self.network.readout.weight).T + np.asarray(self.network.readout.bias)


@pytest.mark.parametrize("clock", [pytest.param(None, marks=pytest.mark.slow), TanhClock()], ids=["no clock", "clock"])
def test_lstm_is_its_formula(clock: TanhClock | None, x64: None, getkey: Callable[[], Array]) -> None:
    cell = shaken(LSTM(4, clock=clock), getkey())
    params, grads = arrays(getkey()), [arrays(getkey(), 10.0**-k) for k in (0, 3, 5)]
    _, found = steps(cell, params, grads)
    assert isinstance(cell.head, LinearHead)
    for name, param in f64(params).items():
        memory = Memory(cell, param)
        for t, grad in enumerate(grads):
            x = preprocessed(f64(grad[name]), 10)
            if clock is not None:
                time = np.broadcast_to(np.tanh(t / TANH_TIMES - 1), (*param.shape, 11))
                x = np.concatenate([x, time], axis=-1)
            param = param + float(cell.head.scale) * memory.read(x)[..., 0]
        np.testing.assert_allclose(found[name], param, rtol=1e-9)


def test_rnnprop_is_its_formula(x64: None, getkey: Callable[[], Array]) -> None:
    cell = shaken(RNNProp(4), getkey())
    params, grads = arrays(getkey()), [arrays(getkey()) for _ in range(3)]
    _, found = steps(cell, params, grads)
    assert isinstance(cell.head, LinearHead)
    b1, b2 = float(decays(cell.first_decay)), float(decays(cell.second_decay))
    for name, param in f64(params).items():
        memory, m, v = Memory(cell, param), np.zeros_like(param), np.zeros_like(param)
        for t, grad in enumerate(grads):
            g = f64(grad[name])
            m, v = b1 * m + (1 - b1) * g, b2 * v + (1 - b2) * g**2
            scale = np.sqrt(v / (1 - b2 ** (t + 1))) + 1e-8
            x = np.stack([m / (1 - b1 ** (t + 1)) / scale, g / scale], axis=-1)
            z = x @ np.asarray(cell.reader.weight).T + np.asarray(cell.reader.bias)
            out = memory.read(np.where(z > 0, z, np.expm1(z)))[..., 0]
            param = param + float(cell.head.scale) * np.tanh(out)
        np.testing.assert_allclose(found[name], param, rtol=1e-9)


def test_published_sizes() -> None:
    for cell in (LSTM(), RNNProp()):
        assert [layer.recurrent.shape for layer in cell.network.layers] == [(80, 20), (80, 20)]
        assert isinstance(cell.head, LinearHead) and abs(float(cell.head.scale) - 0.1) < 1e-7
    assert LSTM().network.layers[0].inputs.weight.shape == (80, 2)
    np.testing.assert_allclose([decays(RNNProp().first_decay), decays(RNNProp().second_decay)], 0.95, rtol=1e-6)


def test_head_and_clock_add_their_inputs() -> None:
    head, clock = AdamHead(), HorizonClock()
    assert LSTM(5, head=head, clock=clock).network.layers[0].inputs.weight.shape == (20, 2 + 4 + 6)
    assert LSTM(5, head=head, clock=clock).network.readout.weight.shape == (5, 5)
    assert RNNProp(5, head=head, clock=clock).reader.weight.shape == (5, 2 + 4)
    assert RNNProp(5, head=head, clock=clock).network.layers[0].inputs.weight.shape == (20, 5 + 6)


@pytest.mark.slow
def test_large_tensors_are_not_gathered(x64: None, getkey: Callable[[], Array]) -> None:
    cell = shaken(LSTM(3, 1), getkey())
    param = jnp.linspace(-1, 1, 20_000)
    _, together = steps(cell, {"a": jnp.ones(3), "b": param, "c": jnp.zeros(())}, [
        {"a": jnp.ones(3), "b": jnp.sin(param), "c": jnp.ones(())}
    ])  # fmt: skip
    _, alone = steps(cell, param[:50], [jnp.sin(param[:50])])
    np.testing.assert_allclose(together["b"][:50], alone, rtol=1e-12)
    np.testing.assert_allclose(together["a"] - 1, np.full(3, together["c"]), rtol=1e-9)


@pytest.mark.parametrize(
    "make, text",
    [
        (lambda: LSTM(hidden_layers=0), "`hidden_layers` must be a whole number of at least 1, but 0"),
        (lambda: RNNProp(0), "`hidden_size` must be a whole number of at least 1, but 0"),
        (lambda: LSTM(scale=0.0), "`scale` must be positive, but 0.0"),
        (lambda: RNNProp(epsilon=0.0), "`epsilon` must be positive, but 0.0"),
    ],
)
def test_impossible_options_are_refused(make: Callable[[], object], text: str) -> None:
    with pytest.raises(ValueError, match=text):
        make()
