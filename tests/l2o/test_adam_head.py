"""The anchored head and the controller: Adam at first, its formula always."""

import math
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jaxtyping import Array

from metaopt import with_horizon
from metaopt.l2o import LSTM, MLP, AdafacMLP, AdamHead, Controller, HorizonClock, RNNProp
from tests._cases import fast
from tests.l2o._cells import arrays, by_optax, decays, f64, shaken, steps


def silent(cell: Any) -> Any:
    """The last layers of the network and of the controller set to zero."""
    if not isinstance(cell, Controller):
        last = (lambda c: c.network.layers[-1]) if isinstance(cell, MLP | AdafacMLP) else (lambda c: c.network.readout)
        cell = eqx.tree_at(last, cell, replace_fn=lambda layer: jax.tree_util.tree_map(jnp.zeros_like, layer))
    return eqx.tree_at(
        lambda c: c.head.controller[1], cell, jax.tree_util.tree_map(jnp.zeros_like, cell.head.controller[1])
    )


ANCHORED = {
    "mlp": lambda head: MLP(8, head=head, clock=HorizonClock()),
    "adafac_mlp": lambda head: AdafacMLP(8, head=head),
    "lstm": lambda head: LSTM(5, head=head),
    "rnnprop": lambda head: RNNProp(5, head=head, clock=HorizonClock()),
    "controller": lambda head: eqx.tree_at(lambda c: c.head, Controller(), head),
}


@pytest.mark.parametrize("make", fast(ANCHORED, "lstm", "controller"))
def test_an_untrained_rule_is_adam(make: Callable[[AdamHead], Any], getkey: Callable[[], Array]) -> None:
    head = AdamHead(0.03, second_decay=0.999, schedule="constant")
    params, grads = arrays(getkey()), [arrays(getkey(), 0.2) for _ in range(5)]
    wanted = by_optax(optax.adam(0.03, eps=0.0, eps_root=1e-12), params, grads)
    _, found = steps(silent(make(head)), params, grads)
    _, nearly = steps(make(head), params, grads)
    for name in params:
        change = np.asarray(wanted[name] - params[name])
        np.testing.assert_allclose(found[name] - params[name], change, rtol=1e-3, atol=3e-5)
        # The layers that are drawn are small, but not zero.
        distance = np.abs(np.asarray(nearly[name] - params[name]) - change).max()
        assert 1e-6 < distance < 0.2 * np.abs(change).max() + 1e-3


def by_formula(head: AdamHead, param: np.ndarray, grads: list[np.ndarray], horizon: int) -> np.ndarray:
    first, second = ([np.asarray(leaf) for leaf in (layer.weight, layer.bias)] for layer in head.controller)
    betas, beta = decays(head.momentum_decays), decays(head.second_decay)
    momenta, v = [np.zeros_like(param)] * 3, np.zeros_like(param)
    fan_in = math.prod(param.shape[:-1]) if param.ndim else 1
    shape = [float(param.ndim >= 2) - 0.5, math.log(param.size) / 5 - 1, math.log(fan_in) / 4]
    for t, grad in enumerate(grads):
        x, n = t / horizon, t + 1
        time = [2 * x - 1, 2 * np.sqrt(x) - 1, np.log(1 - x + 1 / horizon) / 3 + 0.5]
        time += [np.log1p(n) / 3 - 1, np.tanh(n / 10 - 1), np.exp(-n / 3)]
        c = second[0] @ np.tanh(first[0] @ np.array(time + shape) + first[1]) + second[1]
        momenta = [b * m + (1 - b) * grad for b, m in zip(betas, momenta, strict=True)]
        v = beta * v + (1 - beta) * grad**2
        scale = np.sqrt(v / (1 - beta**n) + 1e-12)
        fast, main, slow = (m / (1 - b**n) / scale for b, m in zip(betas, momenta, strict=True))
        rms = np.sqrt(np.mean(param**2) + 1e-4)
        direction = main + c[1] * fast + c[2] * (slow - main) + c[3] * (grad / scale - main) + c[4] * param / rms
        rate = np.exp(float(head.log_rate) + c[0]) * max(0.5 * (1 + np.cos(np.pi * x)), 1e-3)
        param = param - rate * direction
    return param


def test_the_controller_is_its_formula(x64: None, getkey: Callable[[], Array]) -> None:
    cell = with_horizon(shaken(Controller(), getkey()), 4)
    params, grads = arrays(getkey()), [arrays(getkey(), 0.3) for _ in range(4)]
    _, found = steps(cell, params, grads)
    for name, param in f64(params).items():
        wanted = by_formula(cell.head, param, [f64(grad[name]) for grad in grads], 4)
        np.testing.assert_allclose(found[name], wanted, rtol=1e-9)


@pytest.mark.slow
def test_outputs_of_a_network_enter_as_the_controllers_do(x64: None) -> None:
    head = AdamHead(0.1, schedule="constant")
    param, grad = jnp.asarray([0.5, -1.0]), jnp.asarray([1.0, 2.0])
    _, x = head.observe(head.init(param), head.prepare(param, jnp.asarray(3)), grad)
    outputs = (0.3, -0.2, 0.7, 0.4, 0.25)
    g, fast, main, slow = head.signals(x)
    c = [float(mix) for mix in x.operands.mixing]
    direction = main + (c[0] - 0.2) * fast + (c[1] + 0.7) * (slow - main) + (c[2] + 0.4) * (g - main) + 0.25
    direction = direction + c[3] * param / np.sqrt(np.mean(np.asarray(param) ** 2) + 1e-4)
    wanted = param - jnp.exp(x.operands.log_rate + 0.3) * direction
    np.testing.assert_allclose(head.finish(x, param, outputs), wanted, rtol=1e-12)


def test_the_horizon_reaches_every_clock() -> None:
    cell = with_horizon(MLP(4, head=AdamHead(), clock=HorizonClock()), 77)
    assert isinstance(cell.head, AdamHead) and isinstance(cell.clock, HorizonClock)
    assert int(cell.head.clock.horizon) == int(cell.clock.horizon) == 77


@pytest.mark.slow
def test_steps_past_the_horizon_stay_small(getkey: Callable[[], Array]) -> None:
    cell = with_horizon(Controller(0.1), 3)
    grads = [arrays(getkey()) for _ in range(8)]
    _, before = steps(cell, arrays(getkey()), grads[:3])
    state, params = steps(cell, before, grads)
    last = cell.step(state, params, grads[0])[1]
    for name in params:
        assert float(jnp.max(jnp.abs(last[name] - params[name]))) < 0.1 * 1e-3 * 10


@pytest.mark.parametrize(
    "options, text",
    [
        ({"rate": -1.0}, "`rate` must be positive"),
        ({"momentum_decays": (0.9, 0.99)}, "a fast, a main and a slow one, but 2"),
        ({"second_decay": 1.0}, "`second_decay` must be at least 0 and less than 1"),
        ({"horizon": 0}, "`horizon` must be at least 1, but 0"),
    ],
)
def test_impossible_options_are_refused(options: dict[str, Any], text: str) -> None:
    with pytest.raises(ValueError, match=text):
        AdamHead(**options)
