"""Dynamic algorithm configuration: learned policies against the optimum, and what an environment step costs."""

import statistics
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import optax
from jaxtyping import Array, Float, Key, PRNGKeyArray

from ... import rl
from ..._core import AbstractAlgorithm, ClipByGlobalNorm, from_optax
from ...schedules import Linear
from .. import _peers
from ..base import Budget, Claim, Report, Rival


_SEEDS = 5
_HELD_OUT = 1000
_TOY_GRID = 21


def _learner(rate: float, steps: int) -> AbstractAlgorithm[Any, Any, Any]:
    return Linear(ClipByGlobalNorm(from_optax(optax.adam, learning_rate=rate), 1.0), horizon=steps)


def _rewards(environment: rl.FunctionApproximation | rl.Luby, key: PRNGKeyArray) -> Float[Array, "time actions"]:
    """The rewards of all actions at every step of an episode; here, what is played changes nothing but the reward."""
    state, _ = environment.reset(key=key)
    space = environment.space
    assert isinstance(space, rl.Discrete)

    def body(state: Any, _: None) -> tuple[Any, Float[Array, " actions"]]:
        new, told = jax.vmap(lambda a: environment.step(state, a, key=key))(jnp.arange(space.count))
        return jax.tree_util.tree_map(lambda x: x[0], new), told.reward

    return jax.lax.scan(body, state, None, environment.horizon)[1]


def _references(
    environment: rl.FunctionApproximation | rl.Luby, keys: Key[Array, " episodes"]
) -> dict[str, Float[np.ndarray, " episodes"]]:
    """Returns of the optimum, of the best constant action for each instance and for all, and of random actions."""
    table = np.asarray(jax.jit(jax.vmap(lambda key: _rewards(environment, jr.split(key)[0])))(keys))
    static = table.sum(axis=1)
    return {
        "optimum": table.max(axis=-1).sum(axis=1),
        "best static per instance": static.max(axis=-1),
        "best static": static[:, np.argmax(static.mean(axis=0))],
        "random": table.mean(axis=-1).sum(axis=1),
    }


def _toy_references(environment: rl.ToySGD, keys: Key[Array, " episodes"]) -> dict[str, Float[np.ndarray, " episodes"]]:
    """The same for continuous actions, of which constant ones are searched on a grid."""
    rates = np.linspace(-2.0, 0.0, _TOY_GRID)
    momenta = np.asarray([-10.0, -1.0, -0.5, -0.25])
    grid = jnp.asarray([(rate, momentum) for rate in rates for momentum in momenta])

    def play(choose: Callable[[PRNGKeyArray], Array], key: PRNGKeyArray) -> Float[Array, ""]:
        state, _ = environment.reset(key=jr.split(key)[0])

        def body(state: Any, key: PRNGKeyArray) -> tuple[Any, Float[Array, ""]]:
            state, told = environment.step(state, choose(key), key=key)
            return state, told.reward

        return jnp.sum(jax.lax.scan(body, state, jr.split(key, environment.horizon))[1])

    static = np.asarray(jax.jit(jax.vmap(lambda k: jax.vmap(lambda a: play(lambda _: a, k))(grid)))(keys))
    random = jax.jit(jax.vmap(lambda k: play(lambda key: environment.space.sample(key=key), k)))(keys)
    return {
        "best static per instance": static.max(axis=1),
        "best static": static[:, np.argmax(static.mean(axis=0))],
        "random": np.asarray(random),
    }


def _steps_per_second() -> float:
    """Of our environment of the peer's kind: many side by side, random actions, new episodes included."""
    environment, count, steps = rl.sigmoid(), 4096, 50
    running = rl.start(environment, count, key=jr.key(0))
    run = jax.jit(
        lambda running, key: rl.run(environment, running, lambda x, k: environment.space.sample(key=k), steps, key=key)
    )
    running, told = jax.block_until_ready(run(running, jr.key(1)))
    rates = []
    for seed in range(5):
        begun = time.process_time()
        running, told = jax.block_until_ready(run(running, jr.key(seed)))
        rates.append(told.reward.size / (time.process_time() - begun))
    return statistics.median(rates)


def _peer() -> tuple[dict[str, Any] | None, str]:
    try:
        python = _peers.interpreter("dacbench")
        found = _peers.run(python, "dacbench_throughput.py", 5000, timeout=300)
    except (_peers.PeerUnavailable, _peers.PeerFailed) as error:
        return None, f"No comparison with DACBench: {error}."
    return found, f"DACBench {found['version']}: {found['steps_per_second']:.0f} steps per CPU second in Python."


def run(*, full: bool = False) -> Report:
    """Five seeds of each agent on instances that it has not seen; `full` trains twice as long."""
    # Compiling is part of a figure, so nothing that was compiled before may be reused.
    cached = jax.config.values["jax_enable_compilation_cache"]
    jax.config.update("jax_enable_compilation_cache", False)
    try:
        return _run(2 if full else 1)
    finally:
        jax.config.update("jax_enable_compilation_cache", cached)


def _run(longer: int) -> Report:
    def dqn(updates: int, hidden: tuple[int, ...] = (64, 64)) -> tuple[rl.DQN, int]:
        return rl.DQN(hidden, outer=_learner(3e-3, 8 * updates), discount=0.9, target_rate=0.02), updates

    def ppo(updates: int) -> tuple[rl.PPO, int]:
        outer = _learner(3e-3, 16 * updates)
        return rl.PPO(outer=outer, discount=0.9, environments=128, entropy=0.0), updates

    cases: dict[str, tuple[Any, tuple[Any, int]]] = {
        "sigmoid, 1 dimension": (rl.sigmoid(1), dqn(400 * longer)),
        "sigmoid, 2 dimensions": (rl.sigmoid(2), dqn(1000 * longer)),
        "luby": (rl.Luby(8), dqn(200 * longer)),
        "luby, instances observed": (
            rl.Luby(8, vary=True, observe_instance=True),
            dqn(2000 * longer, hidden=(128, 128)),
        ),
        "toy sgd": (rl.ToySGD(), ppo(400 * longer)),
    }
    rows, found, seconds = [], {}, {}
    keys = jr.split(jr.key(10_000), _HELD_OUT)
    for name, (environment, (agent, updates)) in cases.items():
        means, spent = [], []
        for seed in range(_SEEDS):
            begun = time.process_time()
            result = rl.train(agent, environment, steps=updates, key=jr.key(seed), quick=True, progress=False)
            spent.append(time.process_time() - begun)
            returns = rl.returns(result.actor, environment, episodes=_HELD_OUT, key=jr.key(10_000))
            means.append(float(jnp.mean(returns)))
        toy = isinstance(environment, rl.ToySGD)
        references = (_toy_references if toy else _references)(environment, keys)
        found[name], seconds[name] = (means, {k: float(v.mean()) for k, v in references.items()}), spent
        rows.append(
            {
                "benchmark": name,
                "agent": type(agent).__name__,
                "return": statistics.median(means),
                "worst seed": min(means),
                **{k: float(v.mean()) for k, v in references.items()},
                "CPU s": statistics.median(spent[1:]),
                "CPU s, compiling": spent[0],
            }
        )
        jax.clear_caches()
    claims = []
    for dimensions, name in enumerate(list(cases)[:2], start=1):
        means, references = found[name]
        shares = [mean / references["optimum"] for mean in means]
        note = f"median of {_SEEDS} seeds; {min(shares):.4f} to {max(shares):.4f}"
        agent, updates = cases[name][1]
        note += f"; the best constant action of each instance is at {references['best static per instance']:.3g}"
        budget = Budget(environment_steps=updates * agent.environments * agent.rollout)
        left_out = "the rewards of DACBench 0.5.6, which are others; other agents"
        claim = f"sigmoid{dimensions}d_of_optimum"
        claims.append(Claim(claim, statistics.median(shares), note, budget=budget, rival=None, left_out=left_out))
    spent = seconds["sigmoid, 1 dimension"]
    note = f"one training with its compilation; {statistics.median(spent[1:]):.2f} s without"
    compiling = spent[0] - statistics.median(spent[1:])
    options: dict[str, Any] = {"rival": None, "compile_seconds": max(compiling, 0.0), "compile_counted": True}
    claims.append(Claim("sigmoid1d_cpu_seconds", spent[0], note, **options))
    peer, text = _peer()
    notes = [
        "Returns are sums of the rewards of `metaopt.rl`, which are not those of DACBench 0.5.6, without a "
        "discount, over 1000 held-out instances.",
        text,
    ]
    if peer is not None:
        ours = _steps_per_second()
        note = f"{ours:.3g} steps per CPU second, {4096} environments side by side"
        step = "an environment step with a random action"
        claims.append(
            Claim(
                "env_steps_vs_dacbench",
                ours / peer["steps_per_second"],
                note,
                budget=Budget(work=f"{step}, 4096 side by side in a compiled program"),
                rival=Rival("DACBench", Budget(work=f"{step}, one after the other in Python"), peer["version"]),
                unequal="that is how each is made to be used; its environment has other rewards",
                left_out="compiling; DACBench in many processes; one environment at a time of ours",
            )
        )
    return Report(list(range(_SEEDS)), rows, claims, notes)
