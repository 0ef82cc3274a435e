"""The solver of fronts."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Bool, Float, PRNGKeyArray, PyTree

from ._hypervolume import hypervolume
from ._nondominated import nondominated
from ._preferences import preferences
from ._scalarizations import chebyshev


_MARGIN = 1e-4


class Spec(eqx.Module):
    """A problem on the unit cube. The functions take a point and a key."""

    objectives: Callable[..., Any] = eqx.field(static=True)
    constraints: Callable[..., Any] = eqx.field(static=True)


class Adam(eqx.Module):
    first: Array
    second: Array

    @classmethod
    def create(cls, x):
        return cls(jnp.zeros_like(x), jnp.zeros_like(x))

    def step(self, grad, t, rate, b1=0.9, b2=0.95):
        first = b1 * self.first + (1 - b1) * grad
        second = b2 * self.second + (1 - b2) * grad**2
        hat = first / (1 - b1 ** (t + 1))
        scale = jnp.sqrt(second / (1 - b2 ** (t + 1)))
        return Adam(first, second), -rate * hat / (scale + 1e-12)


def scale_of(F, feasible):
    good = nondominated(F, feasible)
    ideal = jnp.min(jnp.where(good[:, None], F, jnp.inf), 0)
    nadir = jnp.max(jnp.where(good[:, None], F, -jnp.inf), 0)
    any_ = jnp.any(good)
    ideal = jnp.where(any_, ideal, jnp.min(F, 0))
    nadir = jnp.where(any_, nadir, jnp.max(F, 0))
    return ideal, jnp.maximum(nadir - ideal, 1e-3 * (jnp.max(F, 0) - ideal) + 1e-12)


def lagrangian(g, lam, rho):
    return jnp.sum(jnp.maximum(0, lam + rho * g) ** 2 - lam**2) / (2 * rho)


def clean(x):
    return jnp.nan_to_num(x, posinf=0.0, neginf=0.0)


def descend(f, g, X, W, key, steps, rate, known=None):
    n, d = X.shape
    F = jax.vmap(f)(X)
    G = jax.vmap(g)(X)
    c = G.shape[1]
    neighbours = jnp.argsort(jnp.sum((W[:, None] - W[None]) ** 2, -1), axis=1)[:, : min(20, n)]
    lam = jnp.zeros((n, c), X.dtype)
    V = 1 / jnp.maximum(W, 1e-3)
    V = V / jnp.sum(V, 1, keepdims=True)

    def merit(x, w, ideal, extent, lam):
        fx, gx = f(x), g(x)
        s = chebyshev((fx - ideal) / extent, w, jnp.full_like(w, -0.01), 0.02)
        return s + lagrangian(gx, lam, 10.0), (fx, gx)

    def body(carry, inp):
        X, adam, lam, F, G = carry
        t, key = inp
        ideal, extent = known if known is not None else scale_of(F, jnp.all(G <= 1e-3, 1))
        (value, _), grad = jax.vmap(jax.value_and_grad(merit, has_aux=True), (0, 0, None, None, 0))(
            X, V, ideal, extent, lam
        )
        fraction = t / steps
        r = rate * 0.5 * (1 + jnp.cos(math.pi * fraction)) + 1e-4
        adam, move = adam.step(clean(grad), t, r)
        X = jnp.clip(X + move, 0, 1)
        (value, (F, G)) = jax.vmap(merit, (0, 0, None, None, 0))(X, V, ideal, extent, lam)
        # recombination
        ks = jr.split(key, 6)
        near = neighbours[jnp.arange(n), jr.randint(ks[0], (n,), 0, neighbours.shape[1])]
        far = jr.randint(ks[1], (n,), 0, n)
        partner = jnp.where(jr.uniform(ks[2], (n,)) < 0.7, near, far)
        share = jr.uniform(ks[3], (n, 1))
        mask = jr.uniform(ks[4], (n, d)) < share
        child = jnp.where(mask, X[partner], X)
        mk = jr.split(ks[5], 3)
        mutate = jr.uniform(mk[0], (n, d)) < 1.0 / d
        size = 10 ** jr.uniform(mk[1], (n, 1), minval=-2.5, maxval=0.0)
        child = jnp.clip(child + jnp.where(mutate, size * jr.normal(mk[2], (n, d)), 0), 0, 1)
        (cv, (cF, cG)) = jax.vmap(merit, (0, 0, None, None, 0))(child, V, ideal, extent, lam)
        better = cv < value
        X = jnp.where(better[:, None], child, X)
        F = jnp.where(better[:, None], cF, F)
        G = jnp.where(better[:, None], cG, G)
        adam = Adam(jnp.where(better[:, None], 0, adam.first), adam.second)
        lam = jnp.where((t % 20 == 19), jnp.maximum(0, lam + 10.0 * G), lam) if c else lam
        return (X, adam, lam, F, G), None

    carry = (X, Adam.create(X), lam, F, G)
    (X, _, lam, F, G), _ = jax.lax.scan(body, carry, (jnp.arange(steps, dtype=X.dtype), jr.split(key, steps)))
    return X, F, G


def restore(g, X, count=3):
    """Gauss-Newton steps back into the feasible set."""

    def one(x):
        def body(_, x):
            gx = g(x) + _MARGIN
            J = jax.jacrev(g)(x)
            viol = jnp.maximum(gx, 0)
            J = jnp.where((gx > 0)[:, None], J, 0)
            A = J @ J.T + 1e-6 * jnp.eye(J.shape[0])
            return jnp.clip(x - clean(J.T @ jnp.linalg.solve(A, viol)), 0, 1)

        return jax.lax.fori_loop(0, count, body, x)

    return jax.vmap(one)(X)


def contributions(F, ref):
    n = F.shape[0]
    if F.shape[1] == 2:
        nd = nondominated(F)
        Fm = jnp.where((nd & jnp.all(F < ref, 1))[:, None], F, jnp.asarray([ref, ref]))
        order = jnp.lexsort((-Fm[:, 1], Fm[:, 0]))
        x, y = Fm[order, 0], Fm[order, 1]
        right = jnp.append(x[1:], ref)
        above = jnp.concatenate([jnp.full(1, ref), y[:-1]])
        c = jnp.maximum(right - x, 0) * jnp.maximum(above - y, 0)
        return jnp.zeros(n).at[order].set(c)
    total = hypervolume(F, ref)
    eye = jnp.eye(n, dtype=bool)
    return jax.lax.map(lambda out: total - hypervolume(jnp.where(out[:, None], jnp.inf, F), ref), eye, batch_size=16)


def ascend(f, g, X, key, rounds, steps, rate, ref, known=None):
    n, d = X.shape
    c = jax.eval_shape(g, X[0]).shape[0]
    if c:
        X = restore(g, X, 10)

    def evaluate(X):
        return jax.vmap(f)(X), jax.vmap(g)(X)

    F, G = evaluate(X)
    feasible = jnp.all(G <= 0, 1)
    ideal, extent = known if known is not None else scale_of(F, feasible)

    def normal(F, G):
        N = (F - ideal) / extent
        return jnp.where(jnp.all(G <= 0, 1)[:, None], N, jnp.inf) if c else N

    def volume(X):
        F, G = evaluate(X)
        N = (F - ideal) / extent
        ok = jax.lax.stop_gradient(jnp.all(G <= 1e-3, 1))
        N = jnp.where(ok[:, None], N, 10 * ref) if c else N
        return hypervolume(N, ref)

    def one_round(carry, inp):
        current, best, best_volume = carry
        index, key = inp
        # replace
        F, G = evaluate(current)
        N = normal(F, G)
        con = contributions(N, ref)
        weak = con <= 1e-3 * jnp.mean(con)
        ks = jr.split(key, 6)
        gap = jnp.where(weak, 0, con)
        parent = jr.choice(ks[0], n, (n,), p=gap / jnp.maximum(jnp.sum(gap), 1e-30))
        dist = jnp.sum((N[:, None] - N[None]) ** 2, -1)
        dist = jnp.where(weak[None] | jnp.eye(n, dtype=bool) | ~jnp.isfinite(dist), jnp.inf, dist)
        k = min(3, n)
        close = jnp.argsort(dist, axis=1)[:, :k]
        mate = close[parent, jr.randint(ks[1], (n,), 0, k)]
        child = current[parent] + jr.uniform(ks[2], (n, 1), minval=-0.5, maxval=0.7) * (current[mate] - current[parent])
        noise = 10 ** jr.uniform(ks[3], (n, 1), minval=-4.0, maxval=-1.0)
        mutate = jr.uniform(ks[5], (n, d)) < 1.0 / d
        child = jnp.clip(child + jnp.where(mutate, noise * jr.normal(ks[4], (n, d)), 0), 0, 1)
        X = jnp.where(weak[:, None], child, current)
        r0 = rate * 0.5 * (1 + jnp.cos(math.pi * index / rounds)) + 1e-4

        def step(carry, t):
            X, adam = carry
            grad = clean(jax.grad(volume)(X))
            adam, move = adam.step(-grad, t, r0 * (1 - t / steps), b2=0.99)
            X = jnp.clip(X + move, 0, 1)
            if c:
                X = restore(g, X, 1)
            return (X, adam), None

        (X, _), _ = jax.lax.scan(step, (X, Adam.create(X)), jnp.arange(steps, dtype=X.dtype))
        if c:
            X = restore(g, X, 3)
        new = hypervolume(normal(*evaluate(X)), ref)
        better = new > best_volume
        return (X, jnp.where(better, X, best), jnp.maximum(new, best_volume)), new

    start = hypervolume(normal(F, G), ref)
    (_, X, v), hist = jax.lax.scan(one_round, (X, X, start), (jnp.arange(rounds, dtype=X.dtype), jr.split(key, rounds)))
    return X, hist
