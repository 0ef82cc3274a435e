"""A pretrained learned optimizer beside AdamW and Muon, whose rates are tuned, on a task that it was not trained on."""

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import optax
from _style import axes, save

import metaopt
from metaopt.l2o import pretrained
from metaopt.tasks import Mnist1D


STEPS, SEEDS = 500, 5
RATES = np.geomspace(1e-4, 0.3, 12)
family = Mnist1D("held_out", hidden=(64, 64))


def curve(algorithm, key):
    """The loss on all held-out signals after each step on a minibatch."""
    task_key, start_key, run_key = jr.split(key, 3)
    task = family.sample(key=task_key)
    params = task.init(key=start_key)

    def body(carry, key):
        state, params = carry
        value, grads = task.evaluate(params, key=key)
        state, params = algorithm.step(state, params, grads, value=value)
        return (state, params), task.measure(params, key=key)

    return jax.lax.scan(body, (algorithm.init(params), params), jr.split(run_key, STEPS))[1]


curves = eqx.filter_jit(eqx.filter_vmap(curve, in_axes=(None, 0)))
tuning, shown = jr.split(jr.key(1), 3), jr.split(jr.key(2), SEEDS)


def tuned(make):
    """The curves of the rate that ends lowest on other seeds."""
    final = [jnp.nan_to_num(curves(make(rate), tuning)[:, -1].mean(), nan=jnp.inf) for rate in RATES]
    best = RATES[int(np.argmin(final))]
    return best, curves(make(best), shown)


rule = metaopt.with_horizon(pretrained("general"), STEPS)
adamw, adamw_curves = tuned(lambda rate: metaopt.from_optax(optax.adamw(optax.cosine_decay_schedule(rate, STEPS))))
muon, muon_curves = tuned(lambda rate: metaopt.from_optax(optax.contrib.muon(optax.cosine_decay_schedule(rate, STEPS))))
figure, plot = axes()
for name, found in {
    "pretrained rule, nothing tuned": curves(rule, shown),
    f"AdamW, cosine from {adamw:.2g}, best of 12": adamw_curves,
    f"Muon, cosine from {muon:.2g}, best of 12": muon_curves,
}.items():
    plot.plot(np.arange(1, STEPS + 1), np.median(found, 0), label=name)
    plot.fill_between(np.arange(1, STEPS + 1), np.min(found, 0), np.max(found, 0), alpha=0.2)
plot.set(xlabel="step", ylabel="loss on all signals", yscale="log", title="MNIST-1D, two layers of 64")
plot.legend()
save(figure, "learning_curves")
