"""The monitor against closed forms."""

import math
from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
from jaxtyping import Array, Float

from metaopt.evaluate import Monitor, MonitorState


@eqx.filter_jit
def _watch(monitor: Monitor, values: Float[Array, " steps"]) -> MonitorState:
    def body(state: MonitorState, value: Float[Array, ""]) -> tuple[MonitorState, None]:
        return monitor.update(state, value=value, grads={"w": value * jnp.asarray([0.6, 0.8])}), None

    return jax.lax.scan(body, monitor.init(), values)[0]


def _summary(monitor: Monitor, state: MonitorState) -> dict[str, float]:
    return {name: float(metric) for name, metric in eqx.filter_jit(monitor.summary)(state).items()}


def _metrics(monitor: Monitor, values: np.ndarray) -> dict[str, float]:
    state = _watch(monitor, jnp.asarray(values, jnp.result_type(float)))
    return _summary(monitor, state)


def test_exponential_decay(x64: None) -> None:
    values = 5 * np.exp(-0.03 * np.arange(400))
    found = _metrics(Monitor(decay=0.9), values)
    assert found["count"] == 400 and found["nonfinite"] == 0
    assert found["convergence_rate"] == pytest.approx(0.03, rel=1e-9)
    assert found["rise_share"] == 0 and found["log_variance"] == pytest.approx(0, abs=1e-20)
    assert found["first"] == 5 and found["last"] == found["best"] == pytest.approx(values[-1])
    assert found["best_step"] == 399
    weights = 0.9 ** np.arange(400)[::-1]
    average = float((weights * values).sum() / weights.sum())
    assert found["average"] == pytest.approx(average)
    assert found["gradient_norm"] == pytest.approx(values[-1])
    assert found["average_gradient_norm"] == pytest.approx(average)


@pytest.mark.slow
def test_single_precision_is_precise_after_many_steps() -> None:
    found = _metrics(Monitor(), np.exp(-1e-4 * np.arange(100_000)))
    assert found["convergence_rate"] == pytest.approx(1e-4, rel=1e-3)


def test_plateau() -> None:
    found = _metrics(Monitor(), np.full(50, 3.0))
    assert found["convergence_rate"] == 0 and found["rise_share"] == 0 and found["log_variance"] == 0
    assert found["average"] == pytest.approx(3, rel=1e-6) and found["best_step"] == 0


def test_a_floor_makes_a_decay_exponential() -> None:
    values = 2 + np.exp(-0.1 * np.arange(60))
    assert _metrics(Monitor(floor=2.0), values)["convergence_rate"] == pytest.approx(0.1, rel=1e-2)
    assert _metrics(Monitor(), values)["convergence_rate"] < 0.02


def test_a_nervous_run(x64: None, getkey: Callable[[], Array]) -> None:
    logs = np.cumsum(np.asarray(jr.normal(getkey(), (200,))))
    found = _metrics(Monitor(), np.exp(logs))
    increments = np.diff(logs)
    assert found["rise_share"] == pytest.approx(np.mean(increments > 0))
    assert found["log_variance"] == pytest.approx(np.var(increments))
    assert found["convergence_rate"] == pytest.approx(-np.polyfit(np.arange(200), logs, 1)[0])
    assert found["best_step"] == np.argmin(logs)


def test_values_without_a_logarithm_are_left_out_of_logarithms() -> None:
    values = np.exp(-0.2 * np.arange(30))
    values[[4, 17]] = [-1.0, 0.0]
    found = _metrics(Monitor(), values)
    assert found["convergence_rate"] == pytest.approx(0.2, rel=1e-4)
    assert found["log_variance"] == pytest.approx(0, abs=1e-10)
    assert found["best"] == -1 and found["best_step"] == 4 and found["nonfinite"] == 0
    assert found["rise_share"] == pytest.approx(2 / 29)


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_what_is_not_finite_is_counted_and_left_out(bad: float) -> None:
    values = np.exp(-0.2 * np.arange(30))
    values[[0, 5, 29]] = bad
    found = _metrics(Monitor(), values)
    assert found["nonfinite"] == 3
    assert found["convergence_rate"] == pytest.approx(0.2, rel=1e-4)
    assert found["first"] == pytest.approx(values[1]) and found["last"] == pytest.approx(values[28])
    assert math.isfinite(found["average"]) and math.isfinite(found["average_gradient_norm"])


@eqx.filter_jit
def _descend(monitor: Monitor, rate: Float[Array, ""]) -> MonitorState:
    """Gradient descent on |x|^2 / 2 from (3, 4)."""
    params = {"x": jnp.asarray([3.0, 4.0]), "name": None}

    def body(carry: tuple[dict, MonitorState], _: None) -> tuple[tuple[dict, MonitorState], None]:
        params, state = carry
        x = params["x"]
        state = monitor.update(state, value=jnp.sum(x**2) / 2, grads={"x": x, "name": None}, params=params)
        return (params | {"x": x - rate * x}, state), None

    return jax.lax.scan(body, (params, monitor.init(params)), None, length=21)[0][1]


def test_paths_are_measured() -> None:
    monitor = Monitor()
    found = _summary(monitor, _descend(monitor, jnp.asarray(0.1)))
    distance = 5 * (1 - 0.9**20)
    assert found["path_length"] == pytest.approx(distance, rel=1e-5)
    assert found["efficiency"] == pytest.approx(12.5 * (1 - 0.9**40) / distance, rel=1e-5)
    assert found["update_norm"] == pytest.approx(5 * 0.9**19 * 0.1, rel=1e-4)
    assert found["gradient_norm"] == pytest.approx(5 * 0.9**20, rel=1e-5)
    assert found["convergence_rate"] == pytest.approx(-2 * math.log(0.9), rel=1e-4)
    weights = 0.98 ** np.arange(20)[::-1]
    norms = 5 * 0.9 ** np.arange(20) * 0.1
    assert found["average_update_norm"] == pytest.approx((weights * norms).sum() / weights.sum(), rel=1e-4)


def test_a_path_skips_what_is_not_finite() -> None:
    monitor = Monitor()
    state, update = monitor.init(jnp.zeros(2)), eqx.filter_jit(monitor.update)
    for x in ([0.0, 0.0], [3.0, 4.0], [math.nan, 0.0], [3.0, 5.0]):
        state = update(state, value=1.0, params=jnp.asarray(x))
    assert float(state.path_length) == 6.0


def test_a_batch_is_a_vmap(x64: None) -> None:
    # In double precision: the error of a rate that is constant is the root of a rounding.
    monitor, rates = Monitor(capacity=8), jnp.asarray([0.1, 0.2, 0.3])
    batch = jax.vmap(lambda rate: _descend(monitor, rate))(rates)
    metrics = eqx.filter_jit(monitor.summary)(batch)
    for i, rate in enumerate(rates):
        for name, metric in _summary(monitor, _descend(monitor, rate)).items():
            np.testing.assert_allclose(metrics[name][i], metric, rtol=1e-5, atol=1e-6, err_msg=name)
    trace = monitor.trace(batch)
    assert trace.values.shape == (3, 6) and trace.steps.tolist() == [0, 4, 8, 12, 16, 20]
    assert "(" in monitor.report(batch) and "21" in monitor.report(batch)


@pytest.mark.parametrize("steps", [0, 1, 7, 8, 9, 16, 17, 100, 1000])
def test_trajectories_are_thinned_evenly(steps: int) -> None:
    monitor = Monitor(capacity=8)
    state = _watch(monitor, 1 + jnp.arange(steps, dtype=jnp.float32))
    trace = monitor.trace(state)
    stride = 2 ** max(0, math.ceil(math.log2(max(steps, 1) / 8)))
    assert trace.steps.tolist() == list(range(0, steps, stride))
    assert trace.values.tolist() == [1 + step for step in trace.steps]
    np.testing.assert_allclose(trace.gradient_norms, trace.values, rtol=1e-6)
    assert trace.steps.size <= 8


def test_nothing_seen_is_nothing_told() -> None:
    monitor = Monitor()
    metrics = _summary(monitor, monitor.init())
    assert metrics["count"] == metrics["nonfinite"] == 0
    counts = {"count", "nonfinite", "best_step", "stagnated_at", "diverged_at"}
    assert all(math.isnan(x) for name, x in metrics.items() if name not in counts)
    assert monitor.trace(monitor.init()).steps.size == 0


def test_the_report_is_text() -> None:
    lines = Monitor().report(_watch(Monitor(), jnp.asarray([4.0, 2.0, 1.0])), title="Halves").splitlines()
    assert lines[0] == "Halves"
    entries = dict(line.split(maxsplit=1) for line in lines[2:])
    assert entries["count"] == "3" and entries["convergence_rate"] == "0.69315" and entries["path_length"] == "-"


def test_it_watches_a_learner_of_equinox() -> None:
    """Modules with functions among their leaves, low precision, and gradients with holes."""
    model = eqx.nn.MLP(2, 1, 4, 1, key=jr.key(0), dtype=jnp.float16)
    monitor = Monitor()
    state, update = monitor.init(model), eqx.filter_jit(monitor.update)
    grads = eqx.filter_grad(lambda m: jnp.sum(m(jnp.ones(2, jnp.float16))))(model)
    state = update(state, value=jnp.asarray(2.0, jnp.float16), grads=grads, params=model)
    moved = eqx.apply_updates(model, jax.tree_util.tree_map(lambda g: -0.5 * g, grads))
    state = update(state, value=jnp.asarray(1.0, jnp.float16), grads=grads, params=moved)
    assert float(state.path_length) == pytest.approx(_summary(monitor, state)["gradient_norm"] / 2, rel=1e-2)


def test_bad_use_is_refused() -> None:
    monitor = Monitor()
    with pytest.raises(ValueError, match="given to `update` alone"):
        monitor.update(monitor.init(), value=1.0, params=jnp.ones(2))
    with pytest.raises(ValueError, match="given to `init` alone"):
        monitor.update(monitor.init(jnp.ones(2)), value=1.0)
    with pytest.raises(ValueError, match="even number"):
        Monitor(capacity=7)
    with pytest.raises(ValueError, match="`decay`"):
        Monitor(decay=1.0)
    uneven = jax.tree_util.tree_map(lambda *x: jnp.stack(x), monitor.init(), monitor.update(monitor.init(), value=1.0))
    with pytest.raises(ValueError, match=r"equally many steps, but counted \[0, 1\]"):
        monitor.trace(uneven)


def test_the_error_of_the_rate_is_that_of_the_regression(x64: None, getkey: Callable[[], Array]) -> None:
    t = np.arange(80)
    logs = -0.05 * t + 0.1 * np.asarray(jr.normal(getkey(), (80,)))
    found = _metrics(Monitor(), np.exp(logs))
    (slope, _), covariance = np.polyfit(t, logs, 1, cov=True)
    assert found["convergence_rate"] == pytest.approx(-slope)
    # `polyfit` estimates the variance with the same number of degrees of freedom.
    assert found["convergence_rate_error"] == pytest.approx(math.sqrt(covariance[0, 0]), rel=1e-9)


def test_progress_per_step_gradient_and_second(x64: None) -> None:
    monitor, state = Monitor(), Monitor().init()
    for value in (10.0, 7.0, 4.0, 2.0):
        state = monitor.update(state, value=value, gradients=3, seconds=0.5)
    found = _summary(monitor, state)
    assert found["progress_per_step"] == pytest.approx(8 / 4)
    assert found["progress_per_gradient"] == pytest.approx(8 / 12)
    assert found["progress_per_second"] == pytest.approx(8 / 2)
    assert math.isnan(_metrics(monitor, np.ones(3))["progress_per_second"])


@pytest.mark.parametrize("noise", [0.0, 0.02])
@pytest.mark.parametrize("seed", range(3))
def test_a_planted_plateau_is_found_within_twenty_steps(noise: float, seed: int, x64: None) -> None:
    values = np.exp(-0.05 * np.minimum(np.arange(200), 100)) * np.exp(
        noise * np.random.default_rng(seed).normal(size=200)
    )
    monitor = Monitor()
    before, soon = _watch(monitor, jnp.asarray(values[:100])), _watch(monitor, jnp.asarray(values[:120]))
    assert int(before.stagnated_at) == -1 and monitor.advice(before) == []
    assert 100 <= int(soon.stagnated_at) <= 120
    assert int(soon.diverged_at) == -1
    (advice,) = monitor.advice(soon)
    assert advice.startswith(f"The loss has stopped to fall since step {int(soon.stagnated_at)}: stop here, lower")
    # It is over when the loss falls again.
    again = np.concatenate([values[:150], values[149] * np.exp(-0.2 * np.arange(30))])
    assert int(_watch(monitor, jnp.asarray(again)).stagnated_at) == -1


@pytest.mark.parametrize("noise", [0.0, 0.02])
@pytest.mark.parametrize("seed", range(3))
def test_a_planted_divergence_is_found_within_twenty_steps(noise: float, seed: int, x64: None) -> None:
    t = np.arange(200)
    logs = np.where(t < 100, -0.05 * t, -5 + 0.15 * (t - 100))
    values = np.exp(logs + noise * np.random.default_rng(seed).normal(size=200))
    monitor = Monitor()
    before, soon = _watch(monitor, jnp.asarray(values[:100])), _watch(monitor, jnp.asarray(values[:120]))
    assert int(before.diverged_at) == -1 and 100 <= int(soon.diverged_at) <= 120
    assert monitor.advice(soon)[0].startswith(f"The loss rises since step {int(soon.diverged_at)}: lower")


def test_what_is_not_finite_is_a_divergence() -> None:
    monitor = Monitor()
    state = _watch(monitor, jnp.asarray([1.0, 0.5, jnp.nan]))
    assert int(state.diverged_at) == 2 and monitor.advice(state)[0].startswith("1 values or gradients were not")


@pytest.mark.slow
def test_a_vanished_gradient_is_told_apart() -> None:
    monitor, state = Monitor(), Monitor().init()
    for _ in range(30):
        state = monitor.update(state, value=3.0, grads=jnp.zeros(2))
    assert "stationary point" in monitor.advice(state)[0]


def test_sharded_is_unsharded() -> None:
    mesh = jax.make_mesh((8,), ("x",), axis_types=(jax.sharding.AxisType.Auto,))
    spread = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec("x"))
    monitor = Monitor()

    @eqx.filter_jit
    def watch(params: Array) -> MonitorState:
        state = monitor.init(params)
        for i in range(3):
            state = monitor.update(state, value=1.0 / (i + 1), grads=2 * params, params=params * (1 - 0.1 * i))
        return state

    params = jnp.arange(16.0)
    ours, theirs = (_summary(monitor, watch(x)) for x in (jax.device_put(params, spread), params))
    assert ours.keys() == theirs.keys()
    for name, metric in ours.items():
        assert metric == pytest.approx(theirs[name], rel=1e-6, nan_ok=True)


@pytest.mark.slow
def test_norms_of_large_gradients_are_taken_now_and_then() -> None:
    monitor = Monitor()
    small, large = jnp.zeros(100_000), jnp.zeros(100_001)

    @jax.jit
    def run(like: jax.Array) -> MonitorState:
        def body(state: MonitorState, t: jax.Array) -> tuple[MonitorState, None]:
            grads = like.at[0].set(jnp.where(t == 3, jnp.nan, t))
            return monitor.update(state, value=1 / (1 + t), grads=grads), None

        return jax.lax.scan(body, monitor.init(), jnp.arange(20.0))[0]

    every, some = run(small), run(large)
    assert float(every.gradient_norm.last) == 19 and int(every.nonfinite) == 1
    # Of steps 0, 8 and 16.
    assert float(some.gradient_norm.last) == 16 and int(some.nonfinite) == 0
    np.testing.assert_allclose(some.gradient_norm.mean, np.average([0, 8, 16], weights=[0.98**2, 0.98, 1]), rtol=1e-5)
    np.testing.assert_array_equal(monitor.trace(some).gradient_norms, [0] * 8 + [8] * 8 + [16] * 4)
    exact = Monitor(norm_every=1)
    assert float(exact.update(exact.init(), value=1.0, grads=large + 1).gradient_norm.last) == pytest.approx(316.2293)
    with pytest.raises(ValueError, match="norm_every"):
        Monitor(norm_every=0)
