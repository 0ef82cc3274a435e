"""Features of time."""

import jax.numpy as jnp
import numpy as np
import pytest
from jaxtyping import Array

from metaopt.l2o import HorizonClock, TanhClock
from tests.l2o._cells import TANH_TIMES


@pytest.mark.parametrize("t", [0, 1, 500, 200_000])
def test_the_tanh_clock(t: int, x64: None) -> None:
    clock = TanhClock()
    found: Array = clock(jnp.asarray(t, jnp.int32), jnp.float64)
    assert clock.size == found.size == 11
    np.testing.assert_allclose(found, np.tanh(t / TANH_TIMES - 1), rtol=1e-12)


@pytest.mark.parametrize("t", [0, 3, 9, 10, 25])
def test_the_horizon_clock(t: int, x64: None) -> None:
    clock = HorizonClock(10)
    found: Array = clock(jnp.asarray(t, jnp.int32), jnp.float64)
    x, n = min(t / 10, 1), t + 1
    wanted = [2 * x - 1, 2 * np.sqrt(x) - 1, np.log(1 - x + 0.1) / 3 + 0.5]
    wanted += [np.log(t + 2) / 3 - 1, np.tanh(n / 10 - 1), np.exp(-n / 3)]
    assert clock.size == found.size == 6
    np.testing.assert_allclose(found, wanted, rtol=1e-12)
