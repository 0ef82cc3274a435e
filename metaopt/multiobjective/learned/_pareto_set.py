"""A network from a preference to a solution."""

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import optax
from jaxtyping import Array, Float, PRNGKeyArray

from ..._core.arrays._numbers import check_counts
from .._scalarizations import chebyshev
from ..fronts._problem import Problem


class ParetoSet(eqx.Module):
    """All of a front in one network: a preference in, the solution for it out. Made by `learn_pareto_set`."""

    network: eqx.nn.MLP
    lower: Float[Array, " n"]
    upper: Float[Array, " n"]

    def __call__(self, preference: Float[Array, " m"]) -> Float[Array, " n"]:
        """The solution for a preference: nonnegative, its sum one; a large entry permits a large objective."""
        free = self.network(preference)
        # Fronts lie on bounds. Derivatives pass through the projection, so that what left the box finds back.
        unit = free + jax.lax.stop_gradient(jnp.clip(free, 0, 1) - free)
        return self.lower + unit * (self.upper - self.lower)


def learn_pareto_set(
    problem: Problem,
    *,
    hidden: int = 128,
    depth: int = 2,
    steps: int = 2000,
    batch: int = 64,
    rate: float = 2e-3,
    penalty: float = 10.0,
    key: PRNGKeyArray | None = None,
) -> ParetoSet:
    r"""Train a network whose outputs for all preferences are the front.

    $$\min_\phi \mathbb{E}_{w \sim \mathrm{Dir}(1)} \left[
      \max_i \frac{f_i(x_\phi(w)) - z_i}{w_i} + \theta \sum_j \max(0, g_j(x_\phi(w))) \right]$$

    Objectives are measured in units of the front: the problem must have an `ideal` and a `nadir`. A quarter of
    the preferences of a batch lie on the boundary of the simplex, where fronts end. For problems with many local fronts
    use [`metaopt.multiobjective.pareto_front`][].

    **Arguments:**

    - `problem`: what to learn the front of.
    - `hidden`, `depth`: the width and the number of hidden layers.
    - `steps`: of Adam.
    - `batch`: preferences per step.
    - `rate`: the first step size; it falls to zero along half a cosine.
    - `penalty`: $\theta$.
    - `key`: draws the network and the preferences.

    **Returns:**

    A [`metaopt.multiobjective.ParetoSet`][].

    **Raises:**

    - `ValueError`: if the problem has no `ideal` or no `nadir`, or a number is below 1.

    ??? cite "Reference"

        ```bibtex
        @inproceedings{lin2022pareto,
          title={Pareto Set Learning for Neural Multi-Objective Combinatorial Optimization},
          author={Lin, Xi and Yang, Zhiyuan and Zhang, Qingfu},
          booktitle={ICLR}, year={2022}
        }
        ```
    """
    check_counts(hidden=hidden, depth=depth, steps=steps, batch=batch)
    if problem.ideal is None or problem.nadir is None:
        raise ValueError(
            "A Pareto set is learned in units of the front, but the problem has no `ideal` or no `nadir`. Find them "
            "with `pareto_front`: the least and the greatest of each objective of its nondominated solutions."
        )
    ideal, extent = problem.ideal, problem.nadir - problem.ideal
    m = ideal.shape[0]
    network_key, data_key = jr.split(jr.key(0) if key is None else key)
    network = eqx.nn.MLP(m, problem.lower.shape[0], hidden, depth, activation=jax.nn.gelu, key=network_key)
    # Solutions begin in the middle of the box.
    network = eqx.tree_at(lambda n: n.layers[-1].bias, network, replace_fn=lambda b: b + 0.5)
    start = ParetoSet(network, problem.lower, problem.upper)
    # Roots in objectives have derivatives without bound.
    descent = optax.adam(optax.cosine_decay_schedule(rate, steps))
    transformation = optax.chain(optax.clip_by_global_norm(1.0), descent)

    def one(found: ParetoSet, preference: Float[Array, " m"]) -> Float[Array, ""]:
        x = found(preference)
        inverse = 1 / jnp.maximum(preference, 1e-2)
        normal = (problem.objectives(x) - ideal) / extent
        distance = chebyshev(
            normal, inverse / jnp.sum(inverse), jnp.full_like(normal, -0.01), jnp.asarray(0.02, normal.dtype)
        )
        return distance + penalty * jnp.sum(jnp.maximum(problem.constraints(x), 0)) + outside(found, preference)

    def outside(found: ParetoSet, preference: Float[Array, " m"]) -> Float[Array, ""]:
        """How far the network's outputs are out of the box, where nothing else would hold them."""
        free = found.network(preference)
        return 0.1 * jnp.mean(jnp.square(free - jnp.clip(free, 0, 1)))

    def loss(network: eqx.nn.MLP, key: PRNGKeyArray) -> Float[Array, ""]:
        keys = jr.split(key)
        drawn = jr.dirichlet(keys[0], jnp.ones(m), (batch,))
        left_out = jax.nn.one_hot(jr.randint(keys[1], (batch,), 0, m), m)
        edge = drawn * (1 - left_out)
        edge = edge / jnp.sum(edge, axis=1, keepdims=True)
        chosen = jnp.where((jnp.arange(batch) % 4 == 0)[:, None], edge, drawn)
        found = ParetoSet(network, problem.lower, problem.upper)
        return jnp.mean(jax.vmap(lambda w: one(found, w))(chosen))

    @eqx.filter_jit
    def train(network: eqx.nn.MLP) -> eqx.nn.MLP:
        dynamic, static = eqx.partition(network, eqx.is_inexact_array)

        def body(carry: tuple[eqx.nn.MLP, optax.OptState], key: PRNGKeyArray) -> tuple[tuple, None]:
            dynamic, state = carry
            grads = jax.grad(lambda d: loss(eqx.combine(d, static), key))(dynamic)
            grads = jax.tree_util.tree_map(lambda g: jnp.nan_to_num(g, posinf=0.0, neginf=0.0), grads)
            with jax.numpy_dtype_promotion("standard"):
                updates, state = transformation.update(grads, state)
            return (eqx.apply_updates(dynamic, updates), state), None

        begin = dynamic, transformation.init(dynamic)
        (dynamic, _), _ = jax.lax.scan(body, begin, jr.split(data_key, steps))
        return eqx.combine(dynamic, static)

    return ParetoSet(train(start.network), problem.lower, problem.upper)
