"""Whether agents learn what is known to be learnable: two classic control problems of gymnax."""

import importlib
import statistics
import sys
import time
from typing import Any

import jax
import jax.numpy as jnp
import jax.random as jr

from ... import rl
from .. import _peers
from ..base import Budget, Claim, Report


_SEEDS = 3
_EPISODES = 128
_UPDATES = 150
_SOLVED = {"CartPole-v1": 475, "Acrobot-v1": -100}


def _gymnax() -> Any:
    """The package, installed or borrowed from the environment of the peer."""
    try:
        return importlib.import_module("gymnax")
    except ImportError:
        python = _peers.interpreter("gymnax")
    # Behind our own packages, so that nothing but what is missing is taken from there.
    sys.path += [str(each) for each in python.parents[1].glob("lib/python*/site-packages")]
    return importlib.import_module("gymnax")


def run(*, full: bool = False) -> Report:
    """CartPole and Acrobot by PPO; `full` takes five seeds."""
    try:
        gymnax = _gymnax()
    except (_peers.PeerUnavailable, ImportError) as error:
        return Report([], [], [], [f"No environments of gymnax: {error}."])
    seeds = list(range(5 if full else _SEEDS))
    cases = {
        "CartPole-v1": rl.PPO(learning_rate=2.5e-3, rollout=32),
        "Acrobot-v1": rl.PPO(learning_rate=2e-3, rollout=64, minibatches=8),
    }
    rows, claims = [], []
    for name, agent in cases.items():
        environment = rl.Gymnax(*gymnax.make(name))
        returns, spent = [], []
        for seed in seeds:
            begun = time.process_time()
            result = rl.train(agent, environment, steps=_UPDATES, key=jr.key(seed), progress=False)
            spent.append(time.process_time() - begun)
            found = rl.returns(result.actor, environment, episodes=_EPISODES, key=jr.key(10_000))
            returns.append(float(jnp.mean(found)))
        steps = _UPDATES * agent.environments * agent.rollout
        rows.append(
            {
                "problem": name,
                "return": statistics.median(returns),
                "worst seed": min(returns),
                "solved from": _SOLVED[name],
                "environment steps": steps,
                "CPU s": statistics.median(spent[1:]),
                "CPU s, compiling": spent[0],
            }
        )
        note = f"median of {len(seeds)} seeds, {min(returns):.4g} to {max(returns):.4g}; {steps:.3g} environment steps"
        claims.append(
            Claim(
                f"{name.split('-')[0].lower()}_return",
                statistics.median(returns),
                note,
                budget=Budget(environment_steps=steps),
                rival=None,
                compile_seconds=max(spent[0] - statistics.median(spent[1:]), 0.0),
                left_out="other implementations of PPO; harder problems",
            )
        )
        jax.clear_caches()
    notes = [f"Returns of {_EPISODES} new episodes without exploration. The threshold is that of Gym's registry."]
    return Report(seeds, rows, claims, notes)
