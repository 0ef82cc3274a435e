"""The kernels beside the learned update, against NumPy."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
from jax.sharding import NamedSharding, PartitionSpec as P
from jaxtyping import Array

from metaopt.backend import XLA
from metaopt.sharding import make_mesh


@pytest.mark.parametrize("restart", [False, True])
def test_perturbations_are_antithetic_and_add_up(restart: bool, x64: None, getkey: Callable[[], Array]) -> None:
    params, noise, total = ({"w": jr.normal(getkey(), (3, 4)), "b": jr.normal(getkey(), (4,))} for _ in range(3))
    pair, new = jax.jit(XLA().perturb)(params, noise, total, jnp.asarray(restart))
    for name, x in params.items():
        np.testing.assert_allclose(pair[name], np.stack([x + noise[name], x - noise[name]]), rtol=1e-15)
        np.testing.assert_allclose(new[name], noise[name] + (0 if restart else total[name]), rtol=1e-15)


@pytest.mark.parametrize("shape", [(1, 5), (6, 1000), (4, 7, 9)], ids=str)
def test_gram_matrices_and_extrapolations(shape: tuple[int, ...], getkey: Callable[[], Array]) -> None:
    vectors, coefficients = jr.normal(getkey(), shape), jr.normal(getkey(), shape[:1])
    exact = np.asarray(vectors, np.float64).reshape(shape[0], -1)
    np.testing.assert_allclose(jax.jit(XLA().gram)(vectors), exact @ exact.T, rtol=1e-5, atol=1e-4)
    wanted = (np.asarray(coefficients, np.float64) @ exact).reshape(shape[1:])
    np.testing.assert_allclose(jax.jit(XLA().combine)(coefficients, vectors), wanted, rtol=1e-5, atol=1e-5)


def test_gram_matrices_of_sharded_arrays_need_one_small_sum(getkey: Callable[[], Array]) -> None:
    vectors = jr.normal(getkey(), (4, 64, 32))
    spread = jax.device_put(vectors, NamedSharding(make_mesh(model=8), P(None, "model")))
    gram = jax.jit(XLA().gram)
    compiled = gram.lower(spread).compile()
    assert "all-gather" not in (compiled.as_text() or "all-gather")
    np.testing.assert_allclose(compiled(spread), gram(vectors), rtol=1e-5, atol=1e-4)


def test_contractions_over_pairs(x64: None, getkey: Callable[[], Array]) -> None:
    factors = jr.normal(getkey(), (5, 4, 4))
    factors = factors + factors.swapaxes(1, 2)
    density = jr.normal(getkey(), (4, 4))
    density = density + density.T
    integrals = np.einsum("pij,pkl->ijkl", factors, factors)
    rows, columns = np.tril_indices(4)
    packed = jnp.asarray(integrals[rows, columns][:, rows, columns])
    wanted = np.einsum("ijkl,kl->ij", integrals, density)
    np.testing.assert_allclose(jax.jit(XLA().contract_pairs)(packed, density), wanted, rtol=1e-12, atol=1e-12)
    found = jax.jit(XLA().exchange_of_factors)(factors[:, rows, columns], density)
    np.testing.assert_allclose(found, np.einsum("ikjl,kl->ij", integrals, density), rtol=1e-12, atol=1e-12)
