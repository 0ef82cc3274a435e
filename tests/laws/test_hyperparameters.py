"""Every algorithm can be differentiated by its own numbers."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.tree_util as jtu
import numpy as np
import pytest

from .algorithms import FEW, make
from .running import scanned
from .trees import draw


LAYOUT = {"bias": ((3,), "float64"), "scalar": ((), "float64"), "weight": ((2, 3), "float64")}


def _total(numbers: Any, rest: Any, params: Any, signals: Any) -> jax.Array:
    _, new = scanned(eqx.combine(numbers, rest), params, signals)
    return jnp.sum(jnp.stack([jnp.sum(x) for x in jtu.tree_leaves(new)]))


_total_jit, _grad_jit = eqx.filter_jit(_total), eqx.filter_jit(eqx.filter_grad(_total))


@pytest.mark.parametrize("name", FEW)
@pytest.mark.usefixtures("x64")
def test_derivatives_are_finite_differences(name: str) -> None:
    numbers, rest = eqx.partition(make(name), eqx.is_inexact_array)
    arguments = rest, draw(LAYOUT, 0), [draw(LAYOUT, i) for i in (1, 2)]
    generator = np.random.default_rng(0)
    leaves, structure = jtu.tree_flatten(numbers)
    # Biases that are exactly zero put rectified units that see nothing exactly onto their kink.
    leaves = [leaf + 0.01 * generator.normal(size=leaf.shape) for leaf in leaves]
    numbers = jtu.tree_unflatten(structure, leaves)
    # The derivative of a float to an integer power, which optax takes, is itself not strict inside of a scan.
    with jax.numpy_dtype_promotion("standard"):
        grads = jtu.tree_leaves(_grad_jit(numbers, *arguments))
    assert len(grads) == len(leaves)
    for i, (leaf, grad) in enumerate(zip(leaves, grads, strict=True)):
        direction = jnp.asarray(generator.normal(size=leaf.shape))
        totals = []
        for sign in (1, -1):
            moved = leaves[:i] + [leaf + sign * 1e-6 * direction] + leaves[i + 1 :]
            totals.append(_total_jit(jtu.tree_unflatten(structure, moved), *arguments))
        difference = (totals[0] - totals[1]) / 2e-6
        np.testing.assert_allclose(jnp.sum(grad * direction), difference, rtol=1e-4, atol=1e-7)
    assert any(jnp.any(jnp.abs(grad) > 1e-7) for grad in grads)
