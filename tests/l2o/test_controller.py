import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import optax
import pytest

import metaopt
from metaopt.l2o import Controller
from metaopt.schedules import Cosine


def reference(cell, params, grads, horizon):
    """The rule in NumPy, for a list of float64 arrays and their gradients at each step."""
    w = {f: np.asarray(getattr(cell, f), np.float64) for f in ("log_rate", "decay_logits", "second_decay_logit")}
    w |= {f: np.asarray(getattr(cell, f), np.float64) for f in ("hidden_weight", "hidden_bias")}
    w |= {f: np.asarray(getattr(cell, f), np.float64) for f in ("output_weight", "output_bias")}
    decays, decay2 = 1 / (1 + np.exp(-w["decay_logits"])), 1 / (1 + np.exp(-w["second_decay_logit"]))
    params = [p.copy() for p in params]
    m, v = [np.zeros((3, *p.shape)) for p in params], [np.zeros(p.shape) for p in params]
    for t, gs in enumerate(grads):
        x, n = min(t / horizon, 1.0), t + 1.0
        clock = [2 * x - 1, 2 * np.sqrt(x) - 1, np.log(1 - x + 1 / horizon) / 3 + 0.5, np.log1p(n) / 3 - 1]
        clock += [np.tanh(n / 10 - 1), np.exp(-n / 3), np.tanh(n / 100 - 1), np.log(horizon) / 3 - 2, np.cos(np.pi * x)]
        anchor = max(0.5 * (1 + np.cos(np.pi * x)), 1e-3)
        for i, g in enumerate(gs):
            shape = params[i].shape
            s = clock + [0.5 if len(shape) > 1 else -0.5, np.log(g.size) / 5 - 1, np.log(max(shape, default=1)) / 4]
            o = w["output_weight"] @ np.tanh(w["hidden_weight"] @ s + w["hidden_bias"]) + w["output_bias"]
            m[i] = np.stack([d * a + (1 - d) * g for d, a in zip(decays, m[i], strict=True)])
            v[i] = decay2 * v[i] + (1 - decay2) * g**2
            r = 1 / (np.sqrt(v[i] / (1 - decay2**n)) + 1e-8)
            a, b, c = (k / (1 - d**n) for d, k in zip(decays, m[i], strict=True))
            mix = (b + o[1] * a + o[2] * (c - b) + o[3] * (g - b)) * r
            mix = mix + o[4] * params[i] / (np.sqrt(np.mean(params[i] ** 2)) + 1e-3)
            params[i] = params[i] - np.exp(w["log_rate"] + o[0]) * anchor * mix
    return params


def trained(key):
    """A controller whose decisions matter."""
    cell = Controller(0.05, key=key)
    return eqx.tree_at(lambda c: c.output_weight, cell, 0.3 * jr.normal(key, cell.output_weight.shape))


def test_equals_numpy(getkey, x64):
    shapes = [(), (3,), (4, 2), (2, 3, 2)]
    params = [jr.normal(getkey(), s) for s in shapes]
    cell = metaopt.with_horizon(trained(getkey()), 6)
    grads = [[np.asarray(jr.normal(getkey(), s)) for s in shapes] for _ in range(8)]
    state, new = cell.init(params), params
    for gs in grads:
        state, new = cell.step(state, new, [jnp.asarray(g) for g in gs])
    wanted = reference(cell, [np.asarray(p) for p in params], grads, 6)
    for a, b in zip(new, wanted, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-9)


def test_untrained_is_adam_with_a_cosine_schedule(getkey):
    cell = Controller(0.05, horizon=50)
    cell = eqx.tree_at(lambda c: c.output_weight, cell, jnp.zeros_like(cell.output_weight))
    adam = metaopt.from_optax(optax.adam, learning_rate=0.05, b1=0.9, b2=0.99)
    rival = metaopt.with_horizon(Cosine(adam), 50)
    ours = theirs = {"w": jr.normal(getkey(), (5, 4)), "b": jnp.ones(4)}
    s, z = cell.init(ours), rival.init(theirs)
    for _ in range(10):
        grads = jax.tree.map(lambda p: jr.normal(getkey(), p.shape), ours)
        s, ours = cell.step(s, ours, grads)
        z, theirs = rival.step(z, theirs, grads)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=2e-4, atol=1e-6), ours, theirs)


def test_past_its_horizon_it_goes_on_with_small_steps(getkey):
    cell = Controller(0.05, horizon=3)
    params = jnp.ones(4)
    state = cell.init(params)
    for _ in range(10):
        before = params
        state, params = cell.step(state, params, jr.normal(getkey(), (4,)))
    assert np.all(np.isfinite(params))
    assert float(jnp.max(jnp.abs(params - before))) < 1e-3


@pytest.mark.parametrize("name", ["learning_rate", "hidden_size", "horizon"])
def test_numbers_must_be_positive(name):
    with pytest.raises(ValueError, match=f"`{name}` must be positive, but 0 was given"):
        Controller(**{name: 0})
