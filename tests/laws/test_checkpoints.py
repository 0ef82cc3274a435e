"""Every algorithm, and its state, comes back from a file as it was."""

from pathlib import Path

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.tree_util as jtu
import pytest

from metaopt._core import load, save

from .algorithms import NAMES, make
from .running import jit_step, two_steps
from .trees import MIXED, assert_close, draw


@pytest.mark.parametrize("name", NAMES)
def test_a_run_goes_on_from_a_file(name: str, tmp_path: Path) -> None:
    algorithm, signals = make(name), [draw(MIXED, i) for i in (1, 2, 3)]
    saved = algorithm, *two_steps(algorithm, draw(MIXED, 0), signals[:2])
    save(tmp_path / "run", saved)
    numbers = lambda x: eqx.is_array(x) and not jnp.issubdtype(x.dtype, jax.dtypes.prng_key)  # noqa: E731
    blank = jtu.tree_map(lambda x: jnp.zeros_like(x) if numbers(x) else x, saved)
    loaded = load(tmp_path / "run", blank)
    assert jtu.tree_structure(loaded) == jtu.tree_structure(saved)
    assert_close(loaded, saved, rtol=0.0)
    after = [jit_step(a, state, params, signals[2], jnp.asarray(0.25)) for a, state, params in (loaded, saved)]
    assert_close(*after, rtol=0.0)
