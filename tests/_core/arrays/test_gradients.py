"""Values and gradients as algorithms take them."""

import jax
import jax.numpy as jnp
import numpy as np

import metaopt


def test_it_is_the_gradient_by_what_can_be_trained() -> None:
    params = {"x": jnp.asarray([1.0, 2.0]), "count": jnp.asarray(3), "activation": jax.nn.relu}

    def loss(params: dict, scale: float, *, shift: float = 0.0) -> jax.Array:
        return scale * jnp.sum(jnp.square(params["activation"](params["x"]))) + shift

    value, grads = metaopt.value_and_grad(loss)(params, 2.0, shift=1.0)
    assert value == 11.0
    np.testing.assert_array_equal(grads["x"], [4.0, 8.0])
    assert (grads["count"], grads["activation"]) == (None, None)
