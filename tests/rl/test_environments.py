"""Environments against their definitions in plain Python."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

from metaopt import rl


def _play(environment: Any, actions: Any, seed: int = 0) -> tuple[Any, list[Any], list[np.ndarray]]:
    state, observation = environment.reset(key=jr.key(seed))
    first, told, seen = state, [], [np.asarray(observation)]
    step = eqx.filter_jit(lambda state, action: environment.step(state, action, key=jr.key(1)))
    for action in actions:
        state, timestep = step(state, jnp.asarray(action))
        told.append(timestep)
        seen.append(np.asarray(timestep.observation))
    return first, told, seen


def test_sigmoid_is_its_formula(x64: None) -> None:
    environment = rl.sigmoid(2)
    assert environment.space == rl.Discrete(9) and environment.observation_size == 7
    actions = [0, 5, 7, 8, 1, 2, 3, 4, 6, 0]
    start, told, seen = _play(environment, actions)
    a, b = np.asarray(start.a), np.asarray(start.b)
    for t, (action, timestep) in enumerate(zip(actions, told, strict=True), start=1):
        target = 1 / (1 + np.exp(-a * (t - b)))
        played = np.asarray([action // 3, action % 3]) / 2
        assert float(timestep.reward) == pytest.approx(np.prod(1 - np.abs(target - played)))
        np.testing.assert_allclose(seen[t], [(10 - t) / 10, *a / 2, *b / 10, *played])
    assert seen[0][-2:].tolist() == [-1, -1]
    assert [bool(x.terminated) for x in told] == [False] * 9 + [True]
    assert not any(bool(x.truncated) for x in told)


def test_instances_of_sigmoids_have_the_published_distribution() -> None:
    states, _ = jax.jit(jax.vmap(lambda key: rl.sigmoid().reset(key=key)))(jr.split(jr.key(0), 4000))
    assert float(jnp.mean(states.b)) == pytest.approx(5, abs=0.2) and float(jnp.std(states.b)) == pytest.approx(
        2.5, abs=0.1
    )
    assert float(jnp.max(jnp.abs(states.a))) <= 2 and float(jnp.mean(jnp.abs(states.a))) == pytest.approx(1, abs=0.05)


@pytest.mark.parametrize("kind", range(5))
def test_function_approximation(kind: int, x64: None) -> None:
    instances = jnp.asarray([[[kind, 0.4, -0.3], [3, 0.25, 0.0]]])
    environment = rl.FunctionApproximation(2, 0, reward="sum", instances=instances)
    _, told, _ = _play(environment, np.full((10, 2), 0.5))
    functions = [
        lambda t: 1 / (1 + np.exp(-0.4 * (t + 0.3))),
        lambda t: 0.2 * (t + 0.3) ** 2,
        lambda t: 0.4 * t - 0.3,
        lambda t: 0.4,
        lambda t: 0.4 * np.log(t + 0.3),
    ]
    for t, timestep in enumerate(told, start=1):
        assert float(timestep.reward) == pytest.approx(-abs(functions[kind](t) - 0.5) / 2 - 0.125)


def test_drawn_functions_stay_where_they_can_be_played() -> None:
    environment = rl.FunctionApproximation(5)

    def one(key: Any) -> Any:
        state, _ = environment.reset(key=key)
        return jax.vmap(lambda t: environment.targets(eqx.tree_at(lambda s: s.clock, state, t)))(jnp.arange(10))

    targets = jax.jit(jax.vmap(one))(jr.split(jr.key(0), 200))
    assert float(jnp.min(targets)) >= -1e-6 and float(jnp.max(targets)) <= 1 + 1e-6


def test_luby() -> None:
    environment = rl.Luby(16)
    right = [0, 0, 1, 0, 0, 1, 2, 0, 0, 1, 0, 0, 1, 2, 3, 0]
    actions = list(right)
    actions[4] = 3
    _, told, seen = _play(environment, actions)
    assert [float(x.reward) for x in told] == [-1.0 if i == 4 else 0.0 for i in range(16)]
    np.testing.assert_allclose(seen[3], [0, 0, 0.25, -0.25, -0.25, 2 / 16])
    np.testing.assert_allclose(seen[7], np.r_[np.asarray([1, 0, 3, 1, 2]) / 4, 6 / 16])


def test_luby_from_elsewhere_and_with_drift() -> None:
    environment = rl.Luby(8, vary=True, observe_instance=True)
    state, observation = environment.reset(key=jr.key(3))
    assert observation.shape == (environment.observation_size,)
    sequence = [0, 0, 1, 0, 0, 1, 2, 0, 0, 1, 0, 0, 1, 2, 3]
    sequence = sequence + sequence + [4]
    sequence = sequence + sequence + [5]
    for t in range(1, 9):
        place = max(1, int(np.round(t + float(state.start) + float(state.drift) * t)))
        assert int(environment.target(state)) == (sequence + sequence)[place - 1]
        state, _ = environment.step(state, jnp.asarray(0), key=jr.key(0))
    starts = jax.vmap(lambda key: environment.reset(key=key)[0].start)(jr.split(jr.key(0), 500))
    assert float(jnp.min(starts)) >= 0 and float(jnp.max(starts)) <= 64


def test_toy_sgd(x64: None) -> None:
    environment = rl.ToySGD()
    actions = np.asarray([[-1.0, -0.5]] * 5 + [[-0.5, -2.0]] * 5)
    start, told, _ = _play(environment, actions)
    c, place, x, v, g = (float(y) for y in (start.curvature, start.place, start.x, 0, 0))
    for (rate, momentum), timestep in zip(actions, told, strict=True):
        v = 10**momentum * v + 10**rate * g
        x, g = x - v, 2 * c * (x - v - place)
        assert float(timestep.reward) == pytest.approx(-np.log10(c * (x - place) ** 2))


def test_returns_are_sums_over_episodes() -> None:
    environment = rl.Luby(8)
    found = rl.returns(lambda x: jnp.zeros((), jnp.int32), environment, episodes=3, key=jr.key(0))
    assert found.tolist() == [-3.0] * 3  # 1 1 2 1 1 2 4 1


def test_new_episodes_begin_where_old_ones_end() -> None:
    environment = rl.sigmoid()
    running = rl.start(environment, 4, key=jr.key(0))
    running, steps = rl.run(environment, running, lambda x, key: jnp.ones((), jnp.int32), 25, key=jr.key(1))
    assert steps.reward.shape == (25, 4) and steps.observation.shape == (25, 4, 4)
    assert np.flatnonzero(np.asarray(steps.done)[:, 0]).tolist() == [9, 19]
    # What follows an end is the end, and what is observed next is a beginning.
    assert np.allclose(steps.following[9, :, 0], 0) and np.allclose(steps.observation[10, :, 0], 1)
    assert not np.allclose(steps.observation[10, :, 1:3], steps.observation[9, :, 1:3])
    assert running.state.clock.tolist() == [5] * 4


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: rl.sigmoid(0), "`dimensions` must be at least 1"),
        (lambda: rl.FunctionApproximation(values=1), "`values` must be at least 2"),
        (lambda: rl.Box(1, 2.0, 1.0), "`low` must be below `high`"),
        (lambda: rl.RateMultipliers((1.0, -2.0)), "`factors` must be positive"),
        (lambda: rl.DQN(capacity=5), "`capacity` must hold"),
        (lambda: rl.PPO(environments=3, rollout=3), "cannot be divided"),
    ],
)
def test_bad_options_are_refused(make: Any, text: str) -> None:
    with pytest.raises(ValueError, match=text):
        make()
