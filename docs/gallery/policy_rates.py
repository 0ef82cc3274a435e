"""The learning rate of Adam in the hands of a learned policy, and what that does to networks on unseen digits."""

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import optax
from _style import axes, save

import metaopt
from metaopt import rl
from metaopt.schedules import Cosine
from metaopt.tasks import DigitsMLP


STEPS, RATE = 100, 0.02
factors = rl.RateMultipliers((1.0, 0.7, 1.4), 0.05, 10.0)
adam = metaopt.from_optax(optax.adam, learning_rate=RATE)
environment = rl.OptimizationEnvironment(DigitsMLP("train"), adam, control=factors, horizon=20, every=5)
agent = rl.PPO((32, 32), 3e-3, environments=16, rollout=20, minibatches=4, discount=1.0, trace=0.98, entropy=0.003)
result = rl.train(agent, environment, steps=60, key=jr.key(0), evaluation=environment, episodes=32, progress=False)


def run(algorithm, split, key):
    """Losses on all images of a split, and the factor where a policy sets one."""
    task = DigitsMLP(split).sample(key=key)
    params = task.init(key=key)

    def body(carry, key):
        state, params = carry
        value, grads = task.evaluate(params, key=key)
        state, params = algorithm.step(state, params, grads, value=value)
        factor = jnp.exp(factors.setting(state.control)) if isinstance(algorithm, rl.Policy) else 1.0
        return (state, params), (task.measure(params, key=key), factor)

    return jax.lax.scan(body, (algorithm.init(params), params), jr.split(key, STEPS))[1]


@eqx.filter_jit
def median(algorithm, split, key):
    runs = jax.vmap(lambda key: run(metaopt.with_horizon(algorithm, STEPS), split, key))(jr.split(key, 16))
    return [jnp.median(x, 0) for x in runs]


rates = np.geomspace(1e-3, 0.3, 12)
cosines = {rate: Cosine(metaopt.from_optax(optax.adam, learning_rate=rate)) for rate in rates}
first, best = min(cosines.items(), key=lambda pair: median(pair[1], "train", jr.key(3))[0][-1])
figure, plots = axes(2, height=3.2)
fall = first * 0.5 * (1 + jnp.cos(jnp.pi * jnp.arange(STEPS) / STEPS))
for name, rule in {"policy": environment.policy(result.actor), "cosine, best of 12": best}.items():
    loss, factor = median(rule, "held_out", jr.key(5))
    plots[0].plot(fall if rule is best else RATE * factor, label=name)
    plots[1].plot(loss)
plots[0].set(xlabel="step", ylabel="learning rate", yscale="log", ylim=(1e-4, 0.3))
plots[1].set(xlabel="step", ylabel="loss on held-out digits", yscale="log")
figure.legend(*plots[0].get_legend_handles_labels(), loc="outside upper center", ncols=3)
save(figure, "policy_rates")
