"""The yardsticks of the benchmark of dynamic algorithm configuration."""

import jax.random as jr
import numpy as np

from metaopt import rl
from metaopt.bench.rl import _dac


def test_references_are_in_order_and_right() -> None:
    environment = rl.sigmoid()
    keys = jr.split(jr.key(0), 4)
    found = _dac._references(environment, keys)
    assert np.all(found["optimum"] >= found["best static per instance"])
    assert np.all(found["best static per instance"] >= found["best static"])
    assert found["best static"].mean() >= found["random"].mean()
    state, _ = environment.reset(key=jr.split(keys[0])[0])
    targets = 1 / (1 + np.exp(-float(state.a[0]) * (np.arange(1, 11) - float(state.b[0]))))
    rewards = 1 - np.abs(targets[:, None] - np.asarray([0, 0.5, 1]))
    np.testing.assert_allclose(found["optimum"][0], rewards.max(axis=1).sum(), rtol=1e-5)
    np.testing.assert_allclose(found["random"][0], rewards.mean(axis=1).sum(), rtol=1e-5)
    np.testing.assert_allclose(found["best static per instance"][0], rewards.sum(axis=0).max(), rtol=1e-5)


def test_constant_actions_on_parabolas() -> None:
    found = _dac._toy_references(rl.ToySGD(), jr.split(jr.key(1), 8))
    assert np.all(found["best static per instance"] >= found["best static"])
    assert found["best static"].mean() > found["random"].mean()
