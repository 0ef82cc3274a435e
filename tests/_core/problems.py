"""Small problems with known answers, and algorithms that are simple enough to check by hand."""

import equinox as eqx
import jax.numpy as jnp
import jax.random as jr
import jax.tree_util as jtu
from jaxtyping import Array, Float, Int, PRNGKeyArray, PyTree, Scalar

import metaopt


class Bowl(metaopt.AbstractLossTask[Array]):
    """f(x) = curvature |x|^2 / 2: gradient descent at rate r gives x_t = (1 - r curvature)^t x_0."""

    curvature: Float[Array, ""]

    def init(self, *, key: PRNGKeyArray) -> Float[Array, "2"]:
        return jr.normal(key, (2,))

    def loss(self, params: Float[Array, "2"], *, key: PRNGKeyArray) -> Float[Array, ""]:
        del key
        return 0.5 * self.curvature * jnp.sum(jnp.square(params))

    def measure(self, params: Float[Array, "2"], *, key: PRNGKeyArray) -> Float[Array, ""]:
        return self.loss(params, key=key)


class Noisy(metaopt.AbstractLossTask[Array]):
    """A bowl whose center is drawn anew for each minibatch."""

    def init(self, *, key: PRNGKeyArray) -> Float[Array, "2"]:
        return jr.normal(key, (2,))

    def loss(self, params: Float[Array, "2"], *, key: PRNGKeyArray) -> Float[Array, ""]:
        return jnp.sum(jnp.square(params - 0.1 * jr.normal(key, (2,))))

    def measure(self, params: Float[Array, "2"], *, key: PRNGKeyArray) -> Float[Array, ""]:
        del key
        return jnp.sum(jnp.square(params))


class Descent(metaopt.AbstractAlgorithm[tuple, PyTree, PyTree]):
    """Gradient descent."""

    rate: Float[Array, ""] = eqx.field(converter=jnp.asarray)

    def init(self, params: PyTree, *, key: PRNGKeyArray | None = None) -> tuple:
        del params, key
        return ()

    def step(self, state: tuple, params: PyTree, grads: PyTree, *, value: Scalar | None = None) -> tuple[tuple, PyTree]:
        del value
        return state, eqx.apply_updates(params, jtu.tree_map(lambda g: -self.rate.astype(g.dtype) * g, grads))


class Shaken(metaopt.AbstractAlgorithm[PRNGKeyArray, PyTree, PyTree]):
    """Gradient descent with noise: its state is a typed random key."""

    rate: Float[Array, ""] = eqx.field(converter=jnp.asarray)

    def init(self, params: PyTree, *, key: PRNGKeyArray | None = None) -> PRNGKeyArray:
        del params
        if key is None:
            raise ValueError("`Shaken` draws random numbers: it needs a `key`.")
        return key

    def step(
        self, state: PRNGKeyArray, params: PyTree, grads: PyTree, *, value: Scalar | None = None
    ) -> tuple[PRNGKeyArray, PyTree]:
        del value
        state, key = jr.split(state)
        return state, params - self.rate * (grads + 0.1 * jr.normal(key, grads.shape))


class Planned(metaopt.AbstractAlgorithm[Int[Array, ""], PyTree, PyTree], metaopt.AbstractPlanner):
    """Gradient descent whose rate falls linearly from 1 to 0 over its horizon; may hold another algorithm."""

    horizon: Int[Array, ""] = eqx.field(converter=jnp.asarray, default=7)
    inner: metaopt.AbstractAlgorithm | None = None

    def init(self, params: PyTree, *, key: PRNGKeyArray | None = None) -> Int[Array, ""]:
        del params, key
        return jnp.zeros((), jnp.int32)

    def step(
        self, state: Int[Array, ""], params: PyTree, grads: PyTree, *, value: Scalar | None = None
    ) -> tuple[Int[Array, ""], PyTree]:
        del value
        left = (self.horizon - state).astype(params.dtype) / self.horizon.astype(params.dtype)
        return state + 1, params - left * grads
