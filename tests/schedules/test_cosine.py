"""The cosine schedule against its closed form and against optax."""

import math
from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import optax
import pytest
from jaxtyping import Array

import metaopt
from metaopt.schedules import Cosine


def _expected(t: int, horizon: int, final: float = 0.0, warmup: float = 0.0) -> float:
    """The docstring's formula in plain Python."""
    steps = warmup * horizon
    rise = min(1.0, (t + 1) / steps) if steps > 1 else 1.0
    done = min(1.0, max(0.0, t - steps) / (horizon - steps))
    return rise * (final + (1 - final) * (1 + math.cos(math.pi * done)) / 2)


def _descend(algorithm: Cosine, steps: int) -> list[float]:
    """The lengths of successive steps under a gradient of one."""
    params, one = jnp.asarray(0.0), jnp.asarray(1.0)
    state, lengths = algorithm.init(params), []
    step = eqx.filter_jit(algorithm.step)
    for _ in range(steps):
        state, new = step(state, params, one)
        lengths.append(float(params - new))
        params = new
    return lengths


@pytest.mark.parametrize(("final", "warmup"), [(0.0, 0.0), (0.1, 0.0), (0.0, 0.3), (0.25, 0.5)])
def test_each_step_has_the_length_of_the_closed_form(final: float, warmup: float, x64: None) -> None:
    algorithm = Cosine(metaopt.from_optax(optax.sgd, learning_rate=0.5), 10, final, warmup)
    expected = [0.5 * _expected(t, 10, final, warmup) for t in range(14)]
    np.testing.assert_allclose(_descend(algorithm, 14), expected, atol=1e-12)
    assert expected[10:] == [0.5 * final] * 4


def test_warmup_rises_linearly_to_one() -> None:
    algorithm = Cosine(metaopt.from_optax(optax.sgd, learning_rate=1.0), 8, warmup_fraction=0.5)
    factors = [float(algorithm.factor(jnp.asarray(t))) for t in range(5)]
    np.testing.assert_allclose(factors, [0.25, 0.5, 0.75, 1.0, 1.0], rtol=1e-6)


def test_a_horizon_that_is_all_warmup_is_finite() -> None:
    algorithm = Cosine(metaopt.from_optax(optax.sgd, learning_rate=1.0), 4, warmup_fraction=1.0)
    np.testing.assert_allclose(_descend(algorithm, 6), [0.25, 0.5, 0.75, 1.0, 1.0, 0.0], atol=1e-5)


def test_equals_adam_with_the_schedule_of_optax(getkey: Callable[[], Array]) -> None:
    horizon, rate = 20, 0.03
    ours = metaopt.with_horizon(Cosine(metaopt.from_optax(optax.adam, learning_rate=rate), final_fraction=0.1), horizon)
    theirs = metaopt.from_optax(optax.adam(optax.cosine_decay_schedule(rate, horizon, alpha=0.1)))
    params = {"a": jr.normal(getkey(), (4, 3)), "b": jr.normal(getkey(), (3,))}
    mine, other = params, params
    my_state, other_state = ours.init(params), theirs.init(params)
    step = eqx.filter_jit(lambda algorithm, *args: algorithm.step(*args))
    for _ in range(horizon + 5):
        grads = {"a": jr.normal(getkey(), (4, 3)), "b": jr.normal(getkey(), (3,))}
        my_state, mine = step(ours, my_state, mine, grads)
        other_state, other = step(theirs, other_state, other, grads)
        for name in params:
            np.testing.assert_allclose(mine[name], other[name], rtol=2e-5, atol=2e-6)


def test_drivers_set_the_horizon() -> None:
    algorithm = metaopt.with_horizon(metaopt.Learner(Cosine(metaopt.from_optax(optax.sgd, learning_rate=1.0))), 7)
    assert isinstance(algorithm.algorithm, Cosine)
    assert int(algorithm.algorithm.horizon) == 7


def test_untouched_leaves_survive() -> None:
    params = {"w": jnp.ones(2), "mask": jnp.asarray([-jnp.inf, 0.0]), "count": jnp.asarray(3), "name": "x", "no": None}
    grads = {"w": jnp.ones(2), "mask": None, "count": None, "name": None, "no": None}
    algorithm = Cosine(metaopt.from_optax(optax.sgd, learning_rate=1.0), 4)
    state, new = algorithm.step(algorithm.init(params), params, grads)
    state, new = algorithm.step(state, new, grads)
    assert new["mask"].tolist() == [-math.inf, 0.0]
    assert int(new["count"]) == 3 and new["name"] == "x" and new["no"] is None
    np.testing.assert_allclose(new["w"], -_expected(1, 4), atol=1e-6)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "float32"])
def test_params_and_state_keep_their_dtypes(dtype: str) -> None:
    params = jnp.ones((3, 2), dtype)
    report = metaopt.check(Cosine(metaopt.from_optax(optax.adam, learning_rate=0.1)), params, params)
    assert report.param_bytes == params.nbytes


def test_rates_and_fractions_are_differentiable(x64: None) -> None:
    def end(algorithm: Cosine) -> Array:
        params = jnp.asarray(1.0)
        state = algorithm.init(params)
        for _ in range(5):
            state, params = algorithm.step(state, params, params)
        return params

    algorithm = Cosine(metaopt.from_optax(optax.sgd, learning_rate=0.2), 6, 0.2, 0.35)
    grads = eqx.filter_jit(eqx.filter_grad(end))(algorithm)
    for where in (lambda a: a.final_fraction, lambda a: a.warmup_fraction):
        ends = [end(eqx.tree_at(where, algorithm, where(algorithm) + h)) for h in (1e-5, -1e-5)]
        assert float(where(grads)) == pytest.approx(float(ends[0] - ends[1]) / 2e-5, rel=1e-6)
        assert abs(float(where(grads))) > 1e-3


def test_a_batch_of_rates_is_a_vmap() -> None:
    algorithm = Cosine(metaopt.from_optax(optax.sgd, learning_rate=1.0), 3)

    def end(rate: Array) -> Array:
        tuned = eqx.tree_at(lambda a: a.inner.hyperparameters["learning_rate"], algorithm, rate)
        params = jnp.asarray(1.0)
        state, params = tuned.step(tuned.init(params), params, params)
        return tuned.step(state, params, params)[1]

    rates = jnp.asarray([0.1, 0.2, 0.3])
    np.testing.assert_allclose(jax.vmap(end)(rates), [end(rate) for rate in rates], rtol=1e-6)


@pytest.mark.parametrize(
    ("options", "text"),
    [({"horizon": 0}, "horizon"), ({"horizon": 2.5}, "whole number"), ({"final_fraction": 1.5}, "between 0 and 1")],
)
def test_bad_options_are_refused(options: dict[str, float], text: str) -> None:
    with pytest.raises((TypeError, ValueError), match=text):
        Cosine(metaopt.from_optax(optax.sgd, learning_rate=1.0), **options)
