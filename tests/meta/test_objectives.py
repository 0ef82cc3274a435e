import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, strategies as st

from metaopt.meta import (
    BestLoss,
    ConstantHorizon,
    FinalLoss,
    LogUniformHorizon,
    MeanLogLoss,
    MeanLoss,
    Observation,
    TimeToTarget,
)


VALUES = st.lists(st.floats(0.125, 8.0, width=32), min_size=1, max_size=12)


def total(objective, values):
    state, total = objective.init(), 0.0
    for t, value in enumerate(values):
        observation = Observation(jnp.asarray(value), jnp.asarray(t + 1), jnp.asarray(len(values)))
        state, contribution = objective.contribute(state, observation)
        total += float(contribution)
    return total


@given(VALUES)
def test_contributions_add_up_to_the_objective(values):
    np.testing.assert_allclose(total(MeanLoss(), values), np.mean(values), rtol=1e-5)
    np.testing.assert_allclose(total(MeanLogLoss(floor=1e-6), values), np.mean(np.log(values)), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(total(FinalLoss(), values), values[-1], rtol=1e-6)
    np.testing.assert_allclose(total(BestLoss(), values), np.min(values), rtol=1e-5)


@given(VALUES)
def test_time_to_target_counts_steps_at_low_temperature(values):
    target = 1.0
    if np.min(np.abs(np.asarray(values) - target)) < 0.05:
        return
    late = [v > target for v in values]
    wanted = (late.index(False) if False in late else len(values)) / len(values)
    assert total(TimeToTarget(target=target, temperature=1e-3), values) == pytest.approx(wanted, abs=1e-5)


def test_best_loss_has_a_finite_gradient_at_the_first_update():
    def loss(v):
        objective = BestLoss()
        _, c = objective.contribute(objective.init(), Observation(v, jnp.asarray(1), jnp.asarray(3)))
        return c

    assert float(jax.grad(loss)(jnp.asarray(2.0))) == 1.0


def test_log_uniform_horizons_are_even_over_octaves(getkey):
    horizon = LogUniformHorizon(16, 255)
    drawn = np.asarray(jax.vmap(lambda k: horizon.sample(key=k))(jax.random.split(getkey(), 20000)))
    assert drawn.min() >= 16 and drawn.max() <= 255
    shares = np.histogram(drawn, [16, 32, 64, 128, 256])[0] / drawn.size
    np.testing.assert_allclose(shares, 0.25, atol=0.02)
    np.testing.assert_allclose(horizon.mean_truncations(10), np.mean(np.ceil(drawn / 10)), rtol=0.02)


@pytest.mark.parametrize(
    "make", [lambda: ConstantHorizon(0), lambda: LogUniformHorizon(0, 3), lambda: LogUniformHorizon(5, 3)]
)
def test_a_horizon_below_one_is_refused(make):
    with pytest.raises(ValueError, match="given"):
        make()


def test_bad_objective_arguments_are_refused():
    with pytest.raises(ValueError, match="`floor` must be positive"):
        MeanLogLoss(floor=0.0)
