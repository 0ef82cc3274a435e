"""Celo, CeloAdam, Celo2 and VeLO, against their formulas in NumPy."""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
from jaxtyping import Array

import metaopt
from metaopt.backend import XLA, Layer
from metaopt.l2o import Celo, Celo2, CeloAdam, VeLO
from metaopt.l2o.parts._adafactor import Averager
from metaopt.l2o.parts._progress import Progress
from metaopt.l2o.parts._scheduler import Scheduler
from tests.l2o._cells import SHAPES, arrays, decays, f64, lstm, perceptron, shaken


Arrays = dict[str, np.ndarray]
HORIZON = 12
# Down, up, far out, and down again.
VALUES = (2.0, 1.5, 1.7, 90.0, 0.4)
FRACTIONS = np.array([0.03, 0.1, 0.2, 0.4, 0.6, 0.8, 0.9, 1.0, 1.1])


def run(cell: Any, params: dict[str, Array], grads: list[dict[str, Array]], values: tuple[float, ...]) -> Arrays:
    """Parameters after a step with each gradient and loss."""
    cell = metaopt.with_horizon(cell, HORIZON)
    step = jax.jit(lambda state, params, grads, value: cell.step(state, params, grads, value=value))
    state = cell.init(params)
    for grad, value in zip(grads, values, strict=True):
        state, params = step(state, params, grad, jnp.asarray(value))
    return f64(params)


class Told:
    """What a scheduler is told of time and losses."""

    def __init__(self) -> None:
        self.decay = np.exp(-1 / np.logspace(1, np.log10(HORIZON), 10))
        self.means, self.lowest, self.n = np.zeros(10), np.full(10, 1e12), 0

    def __call__(self, loss: float) -> np.ndarray:
        time = np.tanh((self.n / HORIZON - FRACTIONS) * 10)
        if self.n:
            loss = min(loss, 2 * abs(np.max(self.means / (1 - self.decay ** (self.n + 1)))))
        self.n += 1
        self.means = self.decay * self.means + (1 - self.decay) * loss
        now = self.means / (1 - self.decay**self.n)
        self.lowest = np.minimum(self.lowest, now)
        height, span = now[:-1] - self.lowest[:-1], now[1:] - self.lowest[:-1]
        trend = np.clip(height / np.maximum(span, 1e-8) - 1, -1, 1)
        return np.concatenate([time, trend if self.n > 2 else 0 * trend])


def dense(layer: Layer, x: np.ndarray) -> np.ndarray:
    return x @ np.asarray(layer.weight).T + np.asarray(layer.bias)


class Schedule:
    """The scheduler of some tensors: one row for each."""

    def __init__(self, scheduler: Scheduler, count: int):
        self.scheduler = scheduler
        self.hidden, self.cell = (np.tile(x, (count, 1)) for x in np.asarray(scheduler.first_memory))

    def __call__(self, x: np.ndarray) -> np.ndarray:
        mixed = np.maximum(dense(self.scheduler.mixer, x), 0).max(axis=0, keepdims=True)
        x = dense(self.scheduler.reader, x) + mixed
        self.hidden, self.cell = lstm(self.scheduler.network, self.hidden, self.cell, x)
        return dense(self.scheduler.rate, self.hidden)[:, 0]


def root(x: np.ndarray) -> np.ndarray:
    return np.maximum(x, 1e-9) ** -0.5


class Tensor:
    """Averages of one tensor, and features of full shape."""

    def __init__(self, averager: Averager, param: np.ndarray, epsilon: float):
        self.averager, self.param, self.epsilon = averager, param, epsilon
        self.m, self.v = [np.zeros_like(param)] * 3, np.zeros_like(param)
        order = np.argsort(param.shape, kind="stable")
        self.axes = None if param.ndim < 2 else (int(order[-2]), int(order[-1]))
        self.rows: list[Any] = [0.0] * 3
        self.cols: list[Any] = [0.0] * 3

    def factored(self, grad: np.ndarray, k: int, beta: float) -> tuple[np.ndarray, ...]:
        square, m = grad**2 + 1e-30, self.m[k]
        if self.axes is None:
            v = self.rows[k] = beta * self.rows[k] + (1 - beta) * square
            return grad * root(v + 1e-9), v, v, m * v**-0.5
        d1, d0 = self.axes
        row = self.rows[k] = beta * self.rows[k] + (1 - beta) * square.mean(axis=d0, keepdims=True)
        col = self.cols[k] = beta * self.cols[k] + (1 - beta) * square.mean(axis=d1, keepdims=True)
        factor = root(row / (row.mean(axis=d1, keepdims=True) + 1e-9)) * root(col)
        return grad * factor, np.broadcast_to(row, grad.shape), np.broadcast_to(col, grad.shape), m * factor

    def features(self, grad: np.ndarray) -> list[np.ndarray]:
        momenta, second, factored = (
            decays(x)
            for x in (self.averager.momentum_decays, self.averager.second_decay, self.averager.factored_decays)
        )
        self.m = [b * m + (1 - b) * grad for b, m in zip(momenta, self.m, strict=True)]
        self.v = second * self.v + (1 - second) * grad**2
        inverse = (self.v + self.epsilon) ** -0.5
        parts = [self.factored(grad, k, float(b)) for k, b in enumerate(factored)]
        scaled, rows, cols, moments = ([part[i] for part in parts] for i in range(4))
        table = [grad, np.clip(grad, -0.1, 0.1), self.param, *self.m, self.v, *[m * inverse for m in self.m], inverse]
        table += [*scaled, grad * inverse]
        return table + [*rows, *cols, *[(x + 1e-8) ** -0.5 for x in rows + cols], *moments]

    def step(self, network: Any, grad: np.ndarray, rule: Any, rate: float) -> None:
        features = [f / np.sqrt(np.mean(f**2) + 1e-5) for f in self.features(np.clip(grad, -1000, 1000))]
        assert len(features) == 30
        direction, magnitude = np.moveaxis(perceptron(network, np.stack(features, axis=-1)), -1, 0)
        size = np.sqrt(np.mean(self.param**2) + 1e-9) * float(rule.direction_scale)
        self.param = self.param - rate * size * direction * np.exp(magnitude * float(rule.magnitude_scale))


every_backend = pytest.mark.parametrize(
    "backend",
    [
        XLA(),
        pytest.param(XLA(block=16, unroll=0), marks=pytest.mark.slow),
        pytest.param(XLA(block=16), marks=pytest.mark.slow),
    ],
    ids=["default", "tiled", "unrolled"],
)


def problem(getkey: Callable[[], Array]) -> tuple[dict[str, Array], list[dict[str, Array]]]:
    return arrays(getkey()), [arrays(getkey(), scale) for scale in (0.3, 1.0, 1e-4, 3e3, 0.1)]


@every_backend
@pytest.mark.parametrize("phase", [pytest.param(1, marks=pytest.mark.slow), 2])
def test_celo_is_its_formula(backend: XLA, phase: int, x64: None, getkey: Callable[[], Array]) -> None:
    cell = shaken(Celo(scheduler_size=5, phase=phase, direction_scale=0.1, backend=backend), getkey())
    params, grads = problem(getkey)
    found = run(cell, params, grads, VALUES)
    tensors = {name: Tensor(cell.rule.averager, param, 1e-6) for name, param in f64(params).items()}
    progress, schedule = Told(), Schedule(cell.scheduler, len(tensors))
    for grad, value in zip(grads, VALUES, strict=True):
        # As published: once per tensor.
        rates = 0.1 * np.exp(schedule(np.tile(progress(value), (len(tensors), 1))))
        for rate, (name, tensor) in zip(rates, tensors.items(), strict=True):
            tensor.step(cell.network, f64(grad[name]), cell.rule, rate if phase == 2 else 1.0)
    for name, tensor in tensors.items():
        np.testing.assert_allclose(found[name], tensor.param, rtol=1e-9, atol=1e-11)


class Mixed:
    """The network of one tensor."""

    def __init__(self, bank: Any, weights: np.ndarray, scale: float):
        def mix(leaf: Array) -> np.ndarray:
            weighted = [w * x for w, x in zip(weights, np.asarray(leaf), strict=True)]
            return scale * np.mean(weighted, axis=0)

        self.layers = [Layer(jnp.asarray(mix(x.weight)), jnp.asarray(mix(x.bias))) for x in bank.layers]


def log_size(x: Any) -> np.ndarray:
    return np.clip(np.log(1e-8 + np.abs(10 * np.asarray(x))), -5, 5) / 2


def statistics(tensor: Tensor) -> np.ndarray:
    p, factor = tensor.param, max(1e-9, np.mean(tensor.param**2)) ** -0.5
    momenta, second = [factor * m for m in tensor.m], factor * tensor.v
    rank = np.eye(5)[sum(n > 1 for n in p.shape)]
    about = [np.mean((second - m.mean()) ** 2) for m in momenta]
    return np.concatenate([[log_size(second.mean())], rank, log_size([m.var() for m in momenta]), log_size(about)])


@pytest.mark.slow
@every_backend
def test_velo_is_its_formula(backend: XLA, x64: None, getkey: Callable[[], Array]) -> None:
    cell = VeLO(scheduler_size=5, bank_size=3, mix_scale=3.0, direction_scale=0.1, backend=backend)
    cell = shaken(cell, getkey())
    params, grads = problem(getkey)
    found = run(cell, params, grads, VALUES)
    tensors = {name: Tensor(cell.rule.averager, param, 1e-6) for name, param in f64(params).items()}
    progress, schedule = Told(), Schedule(cell.scheduler, len(tensors))
    for grad, value in zip(grads, VALUES, strict=True):
        told = progress(value)
        rates = schedule(np.stack([np.concatenate([told, statistics(tensor)]) for tensor in tensors.values()]))
        controls = dense(cell.controls, schedule.hidden)
        for rate, weights, (name, tensor) in zip(rates, controls, tensors.items(), strict=True):
            network = Mixed(cell.bank, weights, float(cell.mix_scale))
            tensor.step(network, f64(grad[name]), cell.rule, rate)
    for name, tensor in tensors.items():
        np.testing.assert_allclose(found[name], tensor.param, rtol=1e-9, atol=1e-11)


def test_celo_adam_is_its_formula(x64: None, getkey: Callable[[], Array]) -> None:
    cell = shaken(CeloAdam(0.05, scheduler_size=5, epsilon=1e-3), getkey())
    params, grads = problem(getkey)
    found = run(cell, params, grads, VALUES)
    new, moments = f64(params), {name: (0.0, 0.0) for name in params}
    progress, schedule = Told(), Schedule(cell.scheduler, 1)
    b1, b2 = (float(decays(x)) for x in (cell.first_decay, cell.second_decay))
    for t, (grad, value) in enumerate(zip(grads, VALUES, strict=True), start=1):
        rate = float(0.1 * np.exp(schedule(progress(value)[None])[0] + cell.log_rate))
        for name, g in f64(grad).items():
            g = np.clip(g, -1000, 1000)
            m, v = b1 * moments[name][0] + (1 - b1) * g, b2 * moments[name][1] + (1 - b2) * g**2
            moments[name] = m, v
            step = m / (1 - b1**t) / (1e-3 + np.sqrt(v / (1 - b2**t) + 1e-10))
            new[name] = new[name] - rate * step
    for name, param in new.items():
        np.testing.assert_allclose(found[name], param, rtol=1e-9, atol=1e-11)


def by_matrix(x: np.ndarray, function: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    """Apply a function to each matrix of the last two axes."""
    if x.ndim <= 2:
        return function(x)
    return np.stack([by_matrix(part, function) for part in x])


def newton_schulz(x: np.ndarray) -> np.ndarray:
    u, s, vt = np.linalg.svd(x, full_matrices=False)
    s = s / (np.sqrt(np.sum(s**2)) + 1e-8)
    for _ in range(5):
        s = 3.4445 * s - 4.7750 * s**3 + 2.0315 * s**5
    return (u * s) @ vt


@every_backend
@pytest.mark.parametrize("base", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_celo2_is_its_formula(backend: XLA, base: bool, x64: None, getkey: Callable[[], Array]) -> None:
    options: dict[str, Any] = {"orthogonalize": False, "adam_scale": None} if base else {"adam_pattern": "tall"}
    cell = shaken(Celo2(0.01, weight_decay=0.3, backend=backend, **options), getkey(), 0.05)
    params, grads = problem(getkey)
    found = run(cell, params, grads, VALUES)
    rate, decay = float(np.exp(cell.log_rate)), float(cell.weight_decay)

    def unit(x: np.ndarray) -> np.ndarray:
        return x / np.sqrt(np.mean(x**2) + 1e-9)

    for name, param in f64(params).items():
        tensor, m, v = Tensor(cell.averager, param, 1e-8), 0.0, 0.0
        for t, grad in enumerate((f64(grad[name]) for grad in grads), start=1):
            if not base and (param.ndim < 2 or name == "tall"):
                b1, b2 = (float(decays(x)) for x in (cell.adam.first_decay, cell.adam.second_decay))
                m, v = b1 * m + (1 - b1) * grad, b2 * v + (1 - b2) * grad**2
                root = np.sqrt(v / (1 - b2**t)) + float(np.exp(cell.adam.log_epsilon))
                step, size = m / (1 - b1**t) / root, float(np.exp(cell.adam.log_rate))
            else:
                features = [by_matrix(f, unit) for f in tensor.features(np.clip(grad, -1000, 1000))]
                absent = 15 if param.ndim < 2 else 0
                seen = np.stack(features[: 30 - absent] + [0 * f for f in features[30 - absent :]], axis=-1)
                step, size = perceptron(cell.network, seen)[..., 0], rate
                if not base:
                    step = by_matrix(step, newton_schulz)
                step = by_matrix(step, unit)
            tensor.param = tensor.param - size * (step + decay * tensor.param)
        np.testing.assert_allclose(found[name], tensor.param, rtol=1e-7, atol=1e-9, err_msg=name)


@pytest.mark.slow
def test_without_losses_they_are_taken_to_be_constant(getkey: Callable[[], Array]) -> None:
    cell, params = shaken(CeloAdam(scheduler_size=5), getkey()), {"w": jr.normal(getkey(), (3,))}
    step = eqx.filter_jit(lambda state, params, value: cell.step(state, params, params, value=value))
    ends = []
    for losses in ([None] * 4, [1.0] * 4, [1.0, 2.0, 1.0, 2.0]):
        state, new = cell.init(params), params
        for loss in losses:
            state, new = step(state, new, None if loss is None else jnp.asarray(loss))
        ends.append(np.asarray(new["w"]))
    np.testing.assert_array_equal(ends[0], ends[1])
    assert np.any(ends[0] != ends[2])


@pytest.mark.parametrize("cell", [Celo(), CeloAdam(), VeLO()], ids=lambda cell: type(cell).__name__)
def test_the_horizon_is_told(cell: Any) -> None:
    assert metaopt.with_horizon(cell, 7).progress.horizon == 7


def test_what_is_told_of_the_time() -> None:
    progress = Progress(40)
    losses, _ = progress.observe(progress.init(jnp.float32), jnp.asarray(0), 1.0)
    for step, past in ((4, 1), (39, 7), (400, 9)):
        _, told = progress.observe(losses, jnp.asarray(step), 1.0)
        assert int(jnp.sum(told[:9] > 0)) == past


def test_published_sizes() -> None:
    made = (Celo, lambda: VeLO(scheduler_size=512, bank_size=256, mix_scale=100.0), Celo2)
    celo, velo, celo2 = (eqx.filter_eval_shape(make) for make in made)
    assert [layer.weight.shape for layer in celo.network.layers] == [(4, 30), (4, 4), (2, 4)]
    assert celo.scheduler.network.recurrent.shape == (256, 64) and celo.scheduler.reader.weight.shape == (64, 18)
    assert velo.bank.layers[0].weight.shape == (256, 4, 30) and velo.scheduler.reader.weight.shape == (512, 30)
    assert [layer.weight.shape for layer in celo2.network.layers] == [(8, 30), (8, 8), (1, 8)]


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: Celo(phase=3), "`phase` must be 1"),
        (lambda: Celo(momentum_decays=(0.9,)), "used in pairs, but 1 and 3"),
        (lambda: Celo(scheduler_size=0), "`scheduler_size` must be a whole number of at least 1, but 0"),
        (lambda: VeLO(bank_size=0), "`bank_size` must be .* but 0 was given"),
        (lambda: CeloAdam(epsilon=0.0), "`epsilon` must be positive"),
        (lambda: Celo2(weight_decay=-1.0), "`weight_decay` must be at least 0"),
        (lambda: Celo2(adam_pattern="("), "must be a regular expression, but '\\('"),
        (lambda: Celo2(adam_scale=0.0), "`adam_scale` must be positive"),
        (lambda: Celo(horizon=0), "`horizon` must be at least 1"),
    ],
)
def test_impossible_options_are_refused(make: Callable[[], Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        make()


def test_shapes_of_the_tests_cover_all_ranks() -> None:
    assert {len(shape) for shape in SHAPES.values()} == {0, 1, 2, 4}
