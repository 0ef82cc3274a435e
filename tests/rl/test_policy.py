"""Policies as algorithms, and the environments that they are trained in."""

from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import optax
import pytest

import metaopt
from metaopt import rl
from metaopt.schedules import Cosine
from metaopt.tasks import Quadratics
from tests._cases import slow


_FAMILY = Quadratics(dimension=3, condition=5.0)


def _sgd(rate: float = 0.01) -> metaopt.AbstractAlgorithm:
    return metaopt.from_optax(optax.sgd, learning_rate=rate)


def _environment(**options: Any) -> rl.OptimizationEnvironment:
    return rl.OptimizationEnvironment(_FAMILY, _sgd(), horizon=4, every=3, **options)


def _actor(environment: rl.OptimizationEnvironment, seed: int = 0) -> rl.Actor:
    sizes = (environment.observation_size, 8, environment.space.outputs)
    return rl.Actor(rl.Network(sizes, key=jr.key(seed)), environment.space)


@pytest.mark.parametrize(
    "control",
    [
        rl.RateMultipliers((0.5, 3.0)),
        *slow(rl.LogRate()),
        rl.Choice((_sgd(0.1),)),
        *slow(rl.Restart()),
        rl.RateAndMomentum(hyperparameter="momentum"),
    ],
    ids=["multipliers", "log_rate", "choice", "restart", "momentum"],
)
def test_a_policy_acts_as_the_environment_does(control: Any) -> None:
    inner = metaopt.from_optax(optax.sgd, learning_rate=0.01, momentum=0.5)
    environment = rl.OptimizationEnvironment(_FAMILY, inner, control=control, horizon=4, every=3)
    actor = _actor(environment)
    state, observation = environment.reset(key=jr.key(1))
    task, params = _FAMILY.sample(key=state.task), state.params
    algorithm = environment.policy(actor)
    step = eqx.filter_jit(lambda state, params, grads, value: algorithm.step(state, params, grads, value=value))
    act = eqx.filter_jit(lambda state, observation: environment.step(state, actor(observation), key=jr.key(2)))
    inner = algorithm.init(params)
    terminated = False
    for _ in range(4):
        for _ in range(3):
            value, grads = task.evaluate(params, key=jr.key(0))
            inner, params = step(inner, params, grads, value)
        state, told = act(state, observation)
        observation, terminated = told.observation, bool(told.terminated)
        np.testing.assert_allclose(state.params, params, rtol=2e-5, atol=1e-7)
    assert terminated


@pytest.mark.parametrize("control", [rl.RateMultipliers((1.0, 3.0)), rl.Choice((_sgd(0.03),))])
def test_what_an_action_does(control: Any) -> None:
    params, grads = jnp.ones(2), jnp.asarray([1.0, -2.0])
    state = control.init(_sgd(), params, key=None)
    for action, rate in ((0, 0.01), (1, 0.03)):
        state = control.act(state, _sgd(), params, jnp.asarray(action))
        _, new = control.step(state, _sgd(), params, grads)
        np.testing.assert_allclose(new, params - rate * grads, rtol=1e-6)


def test_a_restart_forgets_momentum() -> None:
    momentum = metaopt.from_optax(optax.sgd, learning_rate=0.1, momentum=0.9)
    control, params = rl.Restart(), jnp.zeros(1)
    state, params = control.step(control.init(momentum, params, key=None), momentum, params, jnp.ones(1))
    ends = []
    for action in (0, 1):
        acted = control.act(state, momentum, params, jnp.asarray(action))
        ends.append(float((params - control.step(acted, momentum, params, jnp.ones(1))[1])[0]))
    np.testing.assert_allclose(ends, [0.19, 0.1], rtol=1e-5)


def test_rate_and_momentum_are_those_of_an_algorithm_made_with_them() -> None:
    inner = Cosine(metaopt.from_optax(optax.sgd, learning_rate=0.1, momentum=0.9), horizon=10)
    same = Cosine(metaopt.from_optax(optax.sgd, learning_rate=0.1, momentum=0.99), horizon=10)
    control, start, grads = rl.RateAndMomentum(hyperparameter="momentum"), jnp.ones(2), jnp.asarray([1.0, -2.0])
    state = control.init(inner, start, key=None)
    # The second number says 100 steps, the first half the length.
    state = control.act(state, inner, start, jnp.asarray([np.log(0.5), 3.0], jnp.float32))
    params, wanted, other = start, start, same.init(start)
    for _ in range(3):
        state, params = control.step(state, inner, params, grads)
        other, proposed = same.step(other, wanted, grads)
        wanted = wanted + 0.5 * (proposed - wanted)
    np.testing.assert_allclose(params, wanted, rtol=1e-5)
    assert float(control.setting(state)) == pytest.approx(np.log(0.5))


def test_an_algorithm_without_momentum_is_refused() -> None:
    with pytest.raises(ValueError, match="hyperparameter `b1`"):
        rl.RateAndMomentum().init(_sgd(), jnp.ones(2), key=None)
    with pytest.raises(ValueError, match="`longest` must be above 1"):
        rl.RateAndMomentum(longest=1.0)


def test_rewards() -> None:
    first, before, after = (jnp.asarray(x) for x in (8.0, 4.0, 2.0))
    last, more = jnp.asarray(True), jnp.asarray(False)
    assert float(rl.ConvergenceSpeed().reward(first, before, after, more)) == pytest.approx(np.log(2))
    assert float(rl.Cautious(3.0).reward(first, before, after, more)) == pytest.approx(np.log(2))
    assert float(rl.Cautious(3.0).reward(first, after, before, more)) == pytest.approx(-3 * np.log(2))
    assert float(rl.FinalReward().reward(first, before, after, more)) == 0
    assert float(rl.FinalReward().reward(first, before, after, last)) == pytest.approx(np.log(4))
    assert float(rl.Regret(1.0).reward(first, before, after, last)) == pytest.approx(-1 / 7)
    assert float(rl.TimeToTarget(0.3).reward(first, before, after, last)) == 0
    assert float(rl.TimeToTarget(0.2).reward(first, before, after, last)) == -1


def test_an_episode_that_diverges_ends() -> None:
    environment = rl.OptimizationEnvironment(
        _FAMILY, _sgd(1e20), control=rl.LogRate(), reward=rl.Regret(), horizon=4, every=3
    )
    state, _ = environment.reset(key=jr.key(0))
    state, told = environment.step(state, jnp.full(1, 3.0), key=jr.key(1))
    assert bool(told.terminated) and float(told.reward) == -10 and bool(jnp.all(jnp.isfinite(told.observation)))


@pytest.mark.slow
def test_training_finds_longer_steps() -> None:
    environment = rl.OptimizationEnvironment(_FAMILY, _sgd(), horizon=8, every=3)
    agent = rl.DQN((32,), 3e-3, environments=32, rollout=8, discount=0.9, target_rate=0.05)
    result = rl.train(agent, environment, steps=150, key=jr.key(0), quick=True, progress=False)
    constant = rl.Actor(rl.Network((environment.observation_size, 5), 0.0, key=jr.key(0)), environment.space)
    learned, still = (
        float(jnp.mean(rl.returns(x, environment, episodes=64, key=jr.key(3)))) for x in (result.actor, constant)
    )
    assert learned > 2 * still > 0


def test_it_is_an_algorithm(tmp_path: Path) -> None:
    environment = _environment()
    algorithm = metaopt.with_horizon(environment.policy(_actor(environment)), 40)
    metaopt.save(tmp_path / "policy.metaopt", algorithm)
    loaded = metaopt.load(tmp_path / "policy.metaopt", environment.policy(_actor(environment, 5)))
    assert eqx.tree_equal(loaded, algorithm) and int(loaded.horizon) == 40
    solution = metaopt.minimize(lambda x: jnp.sum(x**2), loaded, jnp.ones(3), steps=40)
    transformation = metaopt.to_optax(loaded)
    params = jnp.ones(3)
    state = transformation.init(params)

    @jax.jit
    def step(state: Any, params: Any) -> Any:
        value, grads = jax.value_and_grad(lambda x: jnp.sum(x**2))(params)
        updates, state = transformation.update(grads, state, params, value=value)
        return state, optax.apply_updates(params, updates)

    for _ in range(40):
        state, params = step(state, params)
    np.testing.assert_allclose(params, solution.params, rtol=1e-4, atol=1e-7)


def test_an_actor_of_another_control_is_refused() -> None:
    with pytest.raises(ValueError, match="but the control acts on"):
        rl.Policy(_sgd(), _actor(_environment()), control=rl.Restart())
