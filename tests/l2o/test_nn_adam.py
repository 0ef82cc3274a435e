"""Adam whose hyperparameters an LSTM moves, against its formula in NumPy."""

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest
from jaxtyping import Array

from metaopt.l2o import NNAdam
from tests.l2o._cells import arrays, f64, lstm, shaken, steps


def log_size(x: float) -> float:
    return float(np.clip(np.log(1e-8 + np.abs(x)), -5, 5) * 0.5)


def statistics(p: np.ndarray, g: np.ndarray, m: np.ndarray, rms: np.ndarray, controls: np.ndarray) -> np.ndarray:
    table = {}
    for name, x in {"m": m, "p": p, "g": g}.items():
        table[f"mean_{name}_mag"], table[f"mean_{name}_sign"] = log_size(x.mean()), np.sign(x.mean())
        table[f"var_{name}"] = log_size(x.var())
    table |= {"mean_rms": log_size(rms.mean()), "mean_sign": np.sign(rms.mean()), "var_rms": log_size(rms.var())}
    table["mean_gabs_mag"] = log_size(np.abs(g).mean())
    table |= {"is_scalar": 1.0 if p.ndim == 0 else -1.0, "is_bias": 1.0 if p.ndim == 1 else -1.0}
    table |= dict(zip(["lr", "beta1", "beta2", "epsilon"], np.clip(controls, -5, 5) * 0.2, strict=True))
    return np.array([table[name] for name in sorted(table)], np.float64)


def by_formula(cell: NNAdam, p: np.ndarray, grads: list[np.ndarray]) -> np.ndarray:
    m, rms = np.zeros_like(p), np.zeros_like(p)
    controls, (hidden, memory) = np.asarray(cell.controls), np.asarray(cell.first_memory)
    for g in grads:
        g = np.clip(g, -1000, 1000)
        lr, not_b1, not_b2, eps = np.exp(10 * controls)
        m, rms = (1 - not_b1) * m + not_b1 * g, (1 - not_b2) * rms + not_b2 * g**2
        x = statistics(p, g, m, rms, controls)
        p = p - lr * (1 + eps) / (eps + np.sqrt(rms + 1e-10)) * m
        hidden, memory = lstm(cell.network, hidden, memory, x)
        change = np.asarray(cell.readout.weight) @ hidden + np.asarray(cell.readout.bias)
        moved = np.exp(10 * (controls + float(cell.output_scale) * change))
        moved = np.clip(moved, [1e-8, np.exp(-10), np.exp(-10), 1e-11], [1e3, 1, 1, 1e4])
        controls = np.log(moved) / 10
    return p


def test_it_is_its_formula(x64: None, getkey: Callable[[], Array]) -> None:
    cell = shaken(NNAdam(0.01, hidden_size=5, output_scale=0.3), getkey())
    params, grads = arrays(getkey()), [arrays(getkey(), 10.0**k) for k in (0, -2, 4)]
    _, found = steps(cell, params, grads)
    for name, param in f64(params).items():
        wanted = by_formula(cell, param, [f64(grad[name]) for grad in grads])
        np.testing.assert_allclose(found[name], wanted, rtol=1e-9)


def test_controls_stay_in_their_ranges(x64: None, getkey: Callable[[], Array]) -> None:
    cell = shaken(NNAdam(output_scale=50.0), getkey(), 1.0)
    grads = [arrays(getkey()) for _ in range(6)]
    state, params = steps(cell, arrays(getkey()), grads)
    for name, param in params.items():
        rate, not_b1, not_b2, epsilon = np.exp(10 * np.asarray(state.tensors[name].controls))
        assert 1e-8 * 0.999 <= rate <= 1e3 * 1.001 and 1e-11 * 0.999 <= epsilon <= 1e4 * 1.001
        assert np.exp(-10) * 0.999 <= min(not_b1, not_b2) and max(not_b1, not_b2) <= 1
        assert bool(jnp.all(jnp.isfinite(param)))


def test_untrained_it_keeps_its_hyperparameters(getkey: Callable[[], Array]) -> None:
    cell = NNAdam(0.02, 0.8, 0.95, 1e-5)
    state, _ = steps(cell, arrays(getkey()), [arrays(getkey()) for _ in range(3)])
    for tensor in state.tensors.values():
        found = np.exp(10 * np.asarray(tensor.controls, np.float64))
        np.testing.assert_allclose(found, [0.02, 0.2, 0.05, 1e-5], rtol=1e-4)


@pytest.mark.parametrize("options", [{"rate": 0.0}, {"b1": 1.0}, {"b2": -0.1}, {"epsilon": 0.0}])
def test_impossible_numbers_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="must be (positive|at least 0 and less than 1), but"):
        NNAdam(**options)
