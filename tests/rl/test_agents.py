"""Agents: their parts against closed forms, and what they learn."""

from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

import metaopt
from metaopt import rl
from metaopt._core.files import _checkpoint_file
from metaopt.rl.agents._policy_gradient import advantages


def test_a_memory_forgets_the_oldest() -> None:
    memory = rl.Replay.empty({"x": jax.ShapeDtypeStruct((2,), jnp.float32)}, 6)
    for begin in (0, 4, 8):
        rows = jnp.arange(begin, begin + 4, dtype=jnp.float32)
        memory = memory.add({"x": jnp.stack([rows, -rows], axis=1)})
    drawn = np.asarray(memory.sample(500, 3, key=jr.key(0))["x"])
    assert drawn.shape == (500, 3)
    assert set(np.abs(drawn[:, 0])) == {6.0, 7.0, 8.0, 9.0}
    np.testing.assert_array_equal(np.abs(drawn[:, 1:]) - np.abs(drawn[:, :-1]), 1)
    # From one environment each, and from both.
    assert set(np.sign(drawn).sum(axis=1)) == {-3.0, 3.0}


def test_a_memory_that_is_not_full_gives_what_it_has() -> None:
    memory = rl.Replay.empty(jax.ShapeDtypeStruct((1,), jnp.float32), 8).add(jnp.ones((3, 1)))
    assert np.all(np.asarray(memory.sample(50, 2, key=jr.key(0))) == 1)


def _linear(scale: float) -> rl.Network:
    """A network whose outputs are given by the observation."""
    network = rl.Network((2, 2), key=jr.key(0))
    return eqx.tree_at(lambda x: x.weights[0], network, scale * jnp.eye(2))


def test_the_target_of_double_q_learning_over_several_steps(x64: None) -> None:
    agent = rl.DQN(returns=3, discount=0.5)
    observation = jnp.asarray([[[1.0, 2.0]] * 3] * 3)
    following = jnp.asarray([[[5.0, 4.0], [7.0, 1.0], [2.0, 3.0]]] * 3)
    steps = rl.Steps(
        observation=observation,
        action=jnp.asarray([[1, 0, 0]] * 3, jnp.int32),
        reward=jnp.asarray([[1.0, 2.0, 4.0]] * 3),
        following=following,
        # One goes on, one is terminated after two steps, and one is cut off after two.
        terminated=jnp.asarray([[False] * 3, [False, True, False], [False] * 3]),
        done=jnp.asarray([[False] * 3, [False, True, False], [False, True, False]]),
    )
    # The network prefers the second action after three steps; what it is worth, its slow copy says.
    wanted = np.asarray([1 + 1 + 1 + 0.125 * -3.0, 1 + 1, 1 + 1 + 0.25 * -7.0])
    error = np.abs(2.0 - wanted)
    expected = np.where(error <= 1, error**2 / 2, error - 0.5).mean()
    assert float(agent.loss(_linear(1.0), _linear(-1.0), steps)) == pytest.approx(expected)


def test_advantages_are_their_sums(x64: None) -> None:
    generator = np.random.default_rng(0)
    reward, values, following = generator.normal(size=(3, 6, 1))
    done = np.zeros((6, 1), bool)
    done[2], done[4] = True, True
    terminated = np.zeros_like(done)
    terminated[2] = True
    seen = reward[..., None]
    steps = rl.Steps(*(jnp.asarray(x) for x in (seen, seen, reward, seen, terminated, done)))
    found = advantages(steps, *(jnp.asarray(x) for x in (values, following, 0.9, 0.8)))
    expected, later = np.zeros((6, 1)), 0.0
    for t in reversed(range(6)):
        delta = reward[t] + 0.9 * (0 if terminated[t] else following[t]) - values[t]
        later = delta + (0 if done[t] else 0.9 * 0.8 * later)
        expected[t] = later
    np.testing.assert_allclose(found, expected)


@pytest.mark.parametrize("exploration", [rl.EpsilonGreedy(1.0, 0.1, 0.5), rl.Boltzmann(1.0, 0.1, 0.5)])
def test_exploration_ends(exploration: Any) -> None:
    values = jnp.asarray([0.0, 1.0, 0.5])

    def shares(progress: float) -> np.ndarray:
        keys = jr.split(jr.key(0), 4000)
        chosen = jax.vmap(lambda key: exploration.choose(values, jnp.asarray(progress), key=key))(keys)
        return np.bincount(np.asarray(chosen), minlength=3) / 4000

    start, end = (
        ([1 / 3] * 3, [1 / 30, 28 / 30, 1 / 30])
        if isinstance(exploration, rl.EpsilonGreedy)
        else (np.asarray(jax.nn.softmax(values)), np.asarray(jax.nn.softmax(10 * values)))
    )
    np.testing.assert_allclose(shares(0.0), start, atol=0.03)
    np.testing.assert_allclose(shares(0.7), end, atol=0.03)


def test_dueling_values_have_the_mean_of_the_state() -> None:
    network = rl.Dueling((3, 8, 4), key=jr.key(0))
    out, x = network(jnp.ones(3)), network.trunk(jnp.ones(3))
    assert out.shape == (4,) and float(jnp.mean(out)) == pytest.approx(float(x[0]), abs=1e-6)


_AGENTS = {
    "dqn": (rl.DQN((32,), 3e-3, environments=32, discount=0.5, target_rate=0.05), 120),
    "reinforce": (rl.REINFORCE((32,), 3e-2, environments=64, discount=0.5), 250),
    "ppo": (rl.PPO((32,), 1e-2, environments=32, discount=0.5), 60),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", [pytest.param(x, marks=[pytest.mark.slow] * (x != "dqn")) for x in _AGENTS])
def test_agents_learn_to_trace_a_sigmoid(name: str) -> None:
    agent, steps = _AGENTS[name]
    environment = rl.sigmoid()
    result = rl.train(agent, environment, steps=steps, key=jr.key(0), quick=True, progress=False)
    found = float(jnp.mean(rl.returns(result.actor, environment, episodes=200, key=jr.key(7))))
    # A random policy has 5.5, the best constant one 6.6, the best one 9.2.
    assert found > 8.0 and len(result.rewards) == steps


@pytest.mark.slow
def test_ppo_learns_continuous_actions() -> None:
    environment = rl.FunctionApproximation(1, 0, ("sigmoid",), reward="sum")
    agent = rl.PPO((32,), 1e-2, environments=32, discount=0.5)
    result = rl.train(agent, environment, steps=40, key=jr.key(0), quick=True, progress=False)
    found = float(jnp.mean(rl.returns(result.actor, environment, episodes=200, key=jr.key(7))))
    assert found > -1.5  # The middle has -3.4.


def test_discrete_values_need_discrete_actions() -> None:
    with pytest.raises(ValueError, match="Use `PPO` or `REINFORCE`"):
        rl.DQN().init(rl.ToySGD(), key=jr.key(0))


def test_a_resumed_run_is_the_same_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    environment, agent = rl.sigmoid(), rl.DQN((8,), environments=4, rollout=4, updates=1, batch_size=8)
    common: Any = dict(key=jr.key(0), evaluation=environment, evaluate_every=2, episodes=8, quick=True, progress=False)
    whole = rl.train(agent, environment, steps=6, **common)
    path = tmp_path / "agent.metaopt"
    stopped = {"steps": 6, "checkpoint": path, **common}
    calls: list[int] = []
    real = _checkpoint_file.save

    def interrupted(*args: Any, **options: Any) -> Any:
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return real(*args, **options)

    monkeypatch.setattr(_checkpoint_file, "save", interrupted)
    with pytest.raises(KeyboardInterrupt):
        rl.train(agent, environment, **stopped)
    monkeypatch.setattr(_checkpoint_file, "save", real)
    assert metaopt.read_header(path)["metadata"]["updates"] == 4
    with pytest.raises(FileExistsError, match="the checkpoint of another run"):
        rl.train(agent, environment, **stopped)
    held = _checkpoint_file.CheckpointFile(path)
    with pytest.raises(BlockingIOError, match=r"agent.metaopt` is in use by process \d+ on"):
        rl.train(agent, environment, resume=True, **stopped)
    held.release()
    curves = tmp_path / "agent.metaopt.curves"
    exact = curves.read_bytes()
    curves.unlink()
    with pytest.raises(metaopt.CheckpointError, match="agent.metaopt.curves`, the curves of this run, cannot be read"):
        rl.train(agent, environment, resume=True, **stopped)
    curves.write_bytes(exact + b"torn")
    again = rl.train(agent, environment, resume=True, **stopped)
    assert again.rewards == whole.rewards and again.evaluations == whole.evaluations
    assert eqx.tree_equal(again.actor, whole.actor) and again.best_step == whole.best_step
    assert sorted(file.name for file in tmp_path.iterdir()) == ["agent.metaopt", "agent.metaopt.curves"]
    often = rl.train(agent, environment, **stopped | {"checkpoint": tmp_path / "b", "checkpoint_seconds": 1e-9})
    assert eqx.tree_equal(often.actor, whole.actor) and (tmp_path / "b").read_bytes() == path.read_bytes()
    metaopt.save(path, metaopt.load(path, (whole.state, whole.last)))  # the same arrays, from elsewhere
    with pytest.raises(metaopt.CheckpointError, match="agent.metaopt` does not fit: it was not written by"):
        rl.train(agent, environment, resume=True, **stopped)
    with pytest.raises(ValueError, match="`resume=True` needs"):
        rl.train(agent, environment, steps=6, resume=True, **common)
