"""Every schedule against its closed form at every step, its boundaries included."""

import math
from typing import Any

import equinox as eqx
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import metaopt
from metaopt import schedules
from metaopt.schedules import (
    Backtracking,
    BoldDriver,
    CyclicRestarts,
    Exponential,
    Hypergradient,
    Linear,
    LineSearch,
    NoiseAware,
    Plateau,
    Polyak,
)


def _sgd(rate: float = 1.0) -> metaopt.AbstractAlgorithm:
    return metaopt.from_optax(optax.sgd, learning_rate=rate)


def _factors(algorithm: metaopt.AbstractAlgorithm, losses: Any) -> list[float]:
    """The lengths of steps under a gradient of one."""
    params, one = jnp.asarray(0.0), jnp.asarray(1.0)
    state, lengths = algorithm.init(params), []
    step = eqx.filter_jit(lambda state, params, grads, value: algorithm.step(state, params, grads, value=value))
    for loss in losses:
        state, new = step(state, params, one, jnp.asarray(loss, params.dtype))
        lengths.append(float(params - new))
        params = new
    return lengths


@pytest.mark.parametrize(
    ("final", "warmup", "decay"),
    [(0.0, 0.0, 1.0), (0.1, 0.0, 1.0), (0.25, 0.5, 1.0), (0.0, 1.0, 1.0), (0.1, 0.3, 0.4), (0.2, 0.5, 0.8)],
)
def test_linear(final: float, warmup: float, decay: float, x64: None) -> None:
    def expected(t: int) -> float:
        steps, start = 10 * warmup, 10 * max(warmup, 1 - decay)
        rise = min(1.0, (t + 1) / steps) if steps > 1 else 1.0
        return rise * (1 - (1 - final) * min(1.0, max(0.0, t - start) / max(10 - start, 1e-3)))

    found = _factors(Linear(_sgd(), 10, final, warmup, decay), np.ones(14))
    np.testing.assert_allclose(found, [expected(t) for t in range(14)], atol=1e-12)
    # A warm-up never goes beyond the full step.
    assert max(found) <= 1 + 1e-12


@pytest.mark.parametrize("stairs", [False, True])
def test_exponential(stairs: bool, x64: None) -> None:
    found = _factors(Exponential(_sgd(), 0.5, 4, 0.1, stairs), np.ones(20))
    periods = [t // 4 if stairs else t / 4 for t in range(20)]
    np.testing.assert_allclose(found, [max(0.1, 0.5**x) for x in periods], rtol=1e-12)
    assert found[3] == (1.0 if stairs else pytest.approx(0.5**0.75)) and found[4] == pytest.approx(0.5)


@pytest.mark.parametrize("growth", [1, 2, 3])
def test_cyclic_restarts(growth: int, x64: None) -> None:
    found = _factors(CyclicRestarts(_sgd(), 3, growth, 0.2), np.ones(30))
    expected, length = [], 3
    while len(expected) < 30:
        expected += [0.2 + 0.8 * (1 + math.cos(math.pi * j / length)) / 2 for j in range(length)]
        length *= growth
    np.testing.assert_allclose(found, expected[:30], atol=1e-12)
    assert found[3] == 1.0


def _plateau(losses: Any, patience: int, cooldown: int, minimum: float, threshold: float) -> list[float]:
    """The rule of the docstring in plain Python."""
    scale, best, bad, rest, scales = 1.0, math.inf, 0, 0, []
    for loss in losses:
        better = loss < best * (1 - threshold) if math.isfinite(best) else True
        best = loss if better else best
        bad = 0 if better or rest else bad + 1
        rest = max(rest - 1, 0)
        if bad > patience:
            scale, bad, rest = max(scale * 0.5, minimum), 0, cooldown
        scales.append(scale)
    return scales


@pytest.mark.parametrize(("patience", "cooldown", "minimum"), [(0, 0, 0.0), (2, 0, 0.0), (2, 3, 0.1), (1, 1, 0.3)])
def test_plateau(patience: int, cooldown: int, minimum: float, x64: None) -> None:
    losses = [5.0, 4, 3, *[3] * 12, 2, *[2.5] * 12]
    algorithm = Plateau(_sgd(), 0.5, patience, cooldown, minimum, 1e-3)
    expected = _plateau(losses, patience, cooldown, minimum, 1e-3)
    np.testing.assert_allclose(_factors(algorithm, losses), expected, rtol=1e-12)
    # It reduces again and again, down to the minimum.
    assert len(set(expected)) > 2 and min(expected) >= minimum


def test_plateau_reduces_at_the_step_after_its_patience(x64: None) -> None:
    found = _factors(Plateau(_sgd(), 0.1, 3, minimum=0.01), np.ones(12))
    np.testing.assert_allclose(found, [1, 1, 1, 1, *[0.1] * 4, *[0.01] * 4], rtol=1e-12)


def test_plateau_sees_averages_of_windows(x64: None) -> None:
    noisy = [1.0, 3.0] * 6
    assert _factors(Plateau(_sgd(), 0.5, 1, window=2), noisy) == [1] * 5 + [0.5] * 4 + [0.25] * 3
    # Improvements of a loss below zero are improvements.
    assert _factors(Plateau(_sgd(), 0.5, 0), [-1.0, -2.0, -3.0, -3.0]) == [1, 1, 1, 0.5]


def test_a_loss_that_is_no_number_is_no_improvement() -> None:
    assert _factors(Plateau(_sgd(), 0.5, 1), [1.0, math.nan, math.nan, 0.5, 0.25]) == [1, 1, 0.5, 0.5, 0.5]


def test_bold_driver(x64: None) -> None:
    algorithm = BoldDriver(_sgd(), frequency=2, threshold=0.1, growth=2.0, reduction=0.25, minimum=0.1, maximum=3.0)
    # Averages over two: 4, 3, 2.5, 2.4, 2.4, 2.4
    losses = [4.0, 4, 3, 3, 3, 2, 2.4, 2.4, 2.4, 2.4, 2.4, 2.4]
    expected = [1, 1, 1, 2, 2, 3, 3, 0.75, 0.75, 0.1875, 0.1875, 0.1]
    np.testing.assert_allclose(_factors(algorithm, losses), expected, rtol=1e-12)
    assert _factors(BoldDriver(_sgd(), 1), [1.0, math.inf, 2.0, 1.0])[1:] == [0.5, 0.5, pytest.approx(0.525)]


def _descend(algorithm: metaopt.AbstractAlgorithm, curvature: Any, start: Any, steps: int) -> list[np.ndarray]:
    params, path = jnp.asarray(start), []
    state = algorithm.init(params)
    for _ in range(steps):
        loss = jnp.sum(curvature * params**2) / 2
        state, params = algorithm.step(state, params, curvature * params, value=loss)
        path.append(np.asarray(params))
    return path


def test_polyak_is_its_formula(x64: None) -> None:
    curvature, x = np.asarray([1.0, 4.0]), np.asarray([1.0, -0.5])
    path = _descend(Polyak(_sgd(), maximum=100.0), jnp.asarray(curvature), x, 6)
    for found in path:
        g = curvature * x
        x = x - np.sum(curvature * x**2) / 2 / np.sum(g**2) * g
        np.testing.assert_allclose(found, x, rtol=1e-12)
    # The rate of the inner algorithm does not matter, the maximum does.
    other = _descend(Polyak(_sgd(1e-2), maximum=1e4), jnp.asarray(curvature), [1.0, -0.5], 6)
    np.testing.assert_allclose(other, path, rtol=1e-9)
    assert _factors(Polyak(_sgd(), lowest=1.0, maximum=2.0), [1.5, 9.0, 0.5]) == [0.5, 2.0, 0.0]


@pytest.mark.parametrize("multiplicative", [False, True])
def test_hypergradient_is_the_rule_of_the_paper(multiplicative: bool, x64: None) -> None:
    curvature, x = np.asarray([1.0, 4.0]), np.asarray([1.0, -0.5])
    algorithm = Hypergradient(_sgd(0.1), 0.05, multiplicative)
    path = _descend(algorithm, jnp.asarray(curvature), x, 8)
    scale, before = 1.0, np.zeros(2)
    for found in path:
        g = curvature * x
        slope = float(g @ before)
        if multiplicative:
            norms = float(np.linalg.norm(g) * np.linalg.norm(before))
            scale *= 1 - 0.05 * (slope / norms if norms else 0.0)
        else:
            scale -= 0.05 * slope
        before = -0.1 * g
        x = x + scale * before
        np.testing.assert_allclose(found, x, rtol=1e-12)
    assert scale > 1.01


def test_hypergradient_of_adam_finds_a_longer_step() -> None:
    slow = metaopt.from_optax(optax.adam, learning_rate=1e-3)
    ends = [
        float(metaopt.minimize(lambda x: jnp.sum(x**2), each, jnp.ones(3), steps=200).value)
        for each in (slow, Hypergradient(slow))
    ]
    assert ends[1] < 0.5 * ends[0]


def test_line_search_finds_a_rate_that_gradient_descent_needs(x64: None) -> None:
    curvature = jnp.asarray([1.0, 100.0])

    def loss(params: Any) -> Any:
        return jnp.sum(curvature * params["x"] ** 2) / 2

    start = {"x": jnp.ones(2), "name": "x", "count": jnp.asarray(3)}
    algorithm, params = LineSearch(_sgd(1.0), loss), start
    state, values = algorithm.init(params), []
    step = eqx.filter_jit(algorithm.step)
    for _ in range(30):
        value, grads = eqx.filter_value_and_grad(loss)(params)
        values.append(float(value))
        state, params = step(state, params, grads, value=value)
    assert all(b < a for a, b in zip(values, values[1:], strict=False)) and values[-1] < 0.2
    assert params["name"] == "x" and int(params["count"]) == 3
    # The first rate is the first of 1, 1/2, 1/4, ... that satisfies Armijo's condition.
    g = np.asarray([1.0, 100.0])
    rate = next(2.0**-k for k in range(20) if (g * (1 - 2.0**-k * g) ** 2).sum() / 2 <= 50.5 - 1e-4 * 2.0**-k * g @ g)
    _, once = algorithm.step(
        algorithm.init(start), start, {"x": g, "name": None, "count": None}, value=jnp.asarray(50.5)
    )
    np.testing.assert_allclose(once["x"], 1 - rate * g, rtol=1e-12)


def test_backtracking_tries_shorter_steps_from_the_last_point_that_was_good(x64: None) -> None:
    curvature, start = np.asarray([1.0, 40.0]), np.asarray([1.0, -0.5])

    def loss(x: np.ndarray) -> float:
        return float(np.sum(curvature * x**2) / 2)

    wanted, point, trial = [], start, start
    while len(wanted) < 12:
        g = curvature * point
        for k in range(20):
            wanted.append(trial := point - 0.25**k * g)
            if loss(trial) <= loss(point) - 1e-4 * 0.25**k * g @ g:
                break
        point = trial
    path = _descend(Backtracking(_sgd()), jnp.asarray(curvature), start, 12)
    np.testing.assert_allclose(path, wanted[:12], rtol=1e-12)
    assert loss(path[-1]) < 0.1 * loss(start)


def test_backtracking_goes_on_after_its_attempts(x64: None) -> None:
    # Losses that only rise: two shorter steps, then the trial is taken as it is.
    found = _factors(Backtracking(_sgd(), 0.5, attempts=2), np.arange(8.0))
    np.testing.assert_allclose(found, [1.0, -0.5, -0.25, 1.0, -0.5, -0.25, 1.0, -0.5])
    # So does one that is no number.
    np.testing.assert_allclose(_factors(Backtracking(_sgd(), 0.5), [1.0, np.nan, 0.0]), [1.0, -0.5, 1.0])


@pytest.mark.slow
def test_backtracking_around_lbfgs_is_a_quasi_newton_method(x64: None) -> None:
    def loss(x: Any) -> Any:
        return 100 * (x[1] - x[0] ** 2) ** 2 + (1 - x[0]) ** 2

    algorithm = Backtracking(metaopt.from_optax(optax.lbfgs, learning_rate=1.0, linesearch=None))
    solution = metaopt.minimize(loss, algorithm, jnp.asarray([-1.2, 1.0]), steps=80)
    assert float(solution.value) < 1e-12


@pytest.mark.parametrize("noise", [0.0, 1e-3])
def test_noise_aware_follows_one_of_its_two_algorithms(noise: float, x64: None) -> None:
    noisy, exact = metaopt.from_optax(optax.adam, learning_rate=0.1), _sgd(0.3)
    algorithm, alone = NoiseAware(noisy, exact), noisy if noise else exact
    params = reference = jnp.asarray([1.0, -2.0])
    state, other = algorithm.init(params), alone.init(params)
    for t in range(6):
        before = params
        state, params = algorithm.step(state, params, params + noise * t, value=jnp.sum(params**2) / 2)
        if t == 0:
            np.testing.assert_array_equal(params, before)
        else:
            other, reference = alone.step(other, reference, reference + noise * t, value=jnp.sum(reference**2) / 2)
            np.testing.assert_allclose(params, reference, rtol=1e-12)


@pytest.mark.parametrize("name", ["Plateau", "BoldDriver", "Polyak", "Backtracking"])
def test_a_missing_loss_is_asked_for(name: str) -> None:
    algorithm = getattr(schedules, name)(_sgd())
    with pytest.raises(ValueError, match=f"`{name}` follows the loss.*value=loss"):
        algorithm.step(algorithm.init(jnp.ones(2)), jnp.ones(2), jnp.ones(2))


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: Plateau(_sgd(), patience=-1), "`patience` must be a whole number of at least 0"),
        (lambda: Exponential(_sgd(), decay=0.0), "`decay` must be positive"),
        (lambda: CyclicRestarts(_sgd(), growth=1.5), "`growth` must be a whole number"),
        (lambda: Linear(_sgd(), final_fraction=2.0), "between 0 and 1"),
        (lambda: LineSearch(_sgd(), jnp.sum, attempts=0), "`attempts` must be at least 1"),
    ],
)
def test_bad_options_are_refused(make: Any, text: str) -> None:
    with pytest.raises(ValueError, match=text):
        make()


@pytest.mark.parametrize(
    "algorithm",
    [
        metaopt.from_optax(optax.contrib.schedule_free_adamw, learning_rate=0.05),
        metaopt.from_optax(optax.contrib.prodigy, learning_rate=1.0),
        metaopt.from_optax(optax.contrib.dadapt_adamw, learning_rate=1.0),
        metaopt.from_optax(optax.contrib.mechanize(optax.adam(1e-3))),
    ],
    ids=["schedule_free", "prodigy", "d_adaptation", "mechanic"],
)
def test_rules_of_optax_without_a_rate_to_tune(algorithm: metaopt.AbstractAlgorithm) -> None:
    solution = metaopt.minimize(lambda x: jnp.sum((x - 1) ** 2), algorithm, jnp.zeros(3), steps=300)
    assert float(solution.value) < 0.3
