"""Rules that nobody should follow, and convex problems with known constants."""

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import jax.tree_util as jtu
import numpy as np
from jaxtyping import Array, Float

import metaopt
from tests._cases import fast


class Random(metaopt.AbstractAlgorithm):
    """Holds a key, as states may."""

    def init(self, params, *, key=None):
        return jr.key(0)

    def step(self, state, params, grads, *, value=None):
        return jr.fold_in(state, 1), params - grads


class Bad(metaopt.AbstractAlgorithm):
    """What a learned rule may do where it was not trained."""

    kind: str = eqx.field(static=True)

    def init(self, params, *, key=None):
        return jnp.zeros((), jnp.int32)

    def step(self, state, params, grads, *, value=None):
        def move(x, g):
            if self.kind == "grows":
                return x + jnp.exp(0.5 * state.astype(x.dtype))
            if self.kind == "jumps":
                return x + 1e3 * jr.normal(jr.fold_in(jr.key(0), state), x.shape, x.dtype)
            if self.kind == "nan":
                return jnp.full_like(x, jnp.nan)
            if self.kind == "climbs":
                return x + 0.5 * g
            if self.kind == "rests":
                return x
            return x + jnp.asarray(1e-3, x.dtype) * jnp.sin(7.0 * jnp.sum(x)) * jnp.ones_like(x)

        return state + 1, jtu.tree_map(move, params, grads)


KINDS = fast(["grows", "jumps", "nan", "climbs", "rests", "drifts"], "grows", "nan", "drifts")
DIVERGING = fast(["grows", "jumps", "nan", "climbs"], "grows", "nan")


class Ridge(metaopt.AbstractLossTask):
    """Logistic regression or least squares with a penalty: `smooth` and `strong` bound the Hessian's eigenvalues."""

    inputs: Float[Array, "n d"]
    labels: Float[Array, " n"]
    penalty: float = eqx.field(static=True)
    logistic: bool = eqx.field(static=True)

    def init(self, *, key):
        return 3.0 * jr.normal(key, self.inputs.shape[1:], self.inputs.dtype)

    def loss(self, params, *, key):
        outputs = self.inputs @ params
        if self.logistic:
            losses = jnp.logaddexp(0.0, -self.labels * outputs)
        else:
            losses = (outputs - self.labels) ** 2 / 2
        return jnp.mean(losses) + self.penalty / 2 * jnp.sum(params**2)

    def measure(self, params, *, key):
        return self.loss(params, key=key)

    @property
    def smooth(self):
        top = jnp.linalg.norm(self.inputs, 2) ** 2 / len(self.inputs)
        return float(top / 4 if self.logistic else top) + self.penalty

    @property
    def minimum(self):
        """The minimizer, by Newton's method."""
        params = jnp.zeros(self.inputs.shape[1], self.inputs.dtype)
        loss = lambda x: self.loss(x, key=jr.key(0))  # noqa: E731
        step = jax.jit(lambda x: x - jnp.linalg.solve(jax.hessian(loss)(x), jax.grad(loss)(x)))
        for _ in range(20):
            params = step(params)
        return params


def ridge(logistic: bool, seed: int = 0) -> Ridge:
    keys = jr.split(jr.key(seed), 3)
    inputs = jr.normal(keys[0], (40, 6)) * jnp.geomspace(1.0, 0.1, 6)[None]
    labels = jnp.sign(inputs @ jr.normal(keys[1], (6,)) + 0.5 * jr.normal(keys[2], (40,)))
    return Ridge(inputs, labels, 0.01, logistic)


def follow(algorithm, task, params, steps):
    """Values, norms of gradients, and parameters that the steps saw, and the states and parameters that they left."""
    return jtu.tree_map(np.asarray, _follow(algorithm, task, params, steps))


@eqx.filter_jit
def _follow(algorithm, task, params, steps):
    def body(carry, t):
        state, params = carry
        value, grads = task.evaluate(params, key=jr.fold_in(jr.key(0), t))
        new = algorithm.step(state, params, grads, value=value)
        return new, (value, jnp.linalg.norm(grads), params, new)

    _, seen = jax.lax.scan(body, (algorithm.init(params), params), jnp.arange(steps))
    return seen
