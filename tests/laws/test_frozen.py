"""What never had a gradient does not move."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings

import metaopt
from metaopt.backend import XLA, AbstractBackend
from metaopt.l2o import MLP, AdafacMLP, VeLO
from metaopt_backends.pallas import Pallas

from .algorithms import NAMES, make
from .running import init, step
from .trees import draw, seeds


STEPS, LATE = 24, 8
LAYOUT = {name: ((3, 4), "float32") for name in ("frozen", "late", "trained")} | {"bias": ((4,), "float32")}
# The decay of weights moves all of them, and the other members of the population in the table have gradients there.
EXCEPT = {"adamw", "weight_decay", "shared_curvature"}


@eqx.filter_jit
def _path(algorithm: metaopt.AbstractAlgorithm, params: Any, grads: Any) -> Any:
    """The parameters after each step. One tensor has no gradient, another has one for a while, from step `LATE` on."""

    def body(carry: Any, t: jax.Array) -> tuple[Any, Any]:
        state, params = carry
        late = (t >= LATE) & (t < 2 * LATE)
        signal = {name: (1 + 0.1 * jnp.sin(t.astype(g.dtype))) * g for name, g in grads.items()}
        signal |= {"frozen": jnp.zeros_like(grads["frozen"]), "late": jnp.where(late, signal["late"], 0)}
        carry = step(algorithm, state, params, signal, jnp.exp(-0.01 * t.astype(jnp.float32)))
        return carry, carry[1]

    _, path = jax.lax.scan(body, (init(algorithm, params), params), jnp.arange(STEPS))
    return path


@pytest.mark.parametrize("name", [name for name in NAMES if name.values[0] not in EXCEPT])
@settings(max_examples=1)
@given(seed=seeds)
def test_what_never_had_a_gradient_does_not_move(name: str, seed: int) -> None:
    params = draw(LAYOUT, seed)
    path = _path(metaopt.with_horizon(make(name), STEPS), params, draw(LAYOUT, seed + 1))
    assert np.all(path["frozen"] == params["frozen"][None])
    for name in ("trained", "bias"):
        assert np.any(path[name][-1] != params[name])
    np.testing.assert_array_equal(path["late"][LATE - 1], params["late"])
    assert np.any(path["late"][-1] != params["late"])


BACKENDS: dict[str, AbstractBackend | None] = {
    "tiled": XLA(block=256, unroll=0),
    "unrolled": XLA(block=256, unroll=10**6),
    "native": None,  # a fixture, which knows whether it can be used here
    "triton": Pallas(smallest=2, interpret="triton"),
}
_SECOND = {"tiled", "unrolled", "triton"}
RULES = {"mlp": MLP, "adafac_mlp": AdafacMLP, "velo": VeLO}


@pytest.mark.parametrize("backend", [pytest.param(b, marks=[pytest.mark.slow] * (b in _SECOND)) for b in BACKENDS])
@pytest.mark.parametrize("rule", ["mlp", *[pytest.param(r, marks=pytest.mark.slow) for r in ("adafac_mlp", "velo")]])
@settings(max_examples=1, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=seeds)
def test_kernels_hold_it(rule: str, backend: str, seed: int, request: pytest.FixtureRequest) -> None:
    used = BACKENDS[backend] or request.getfixturevalue("native")
    # Larger than what is looked at in each step.
    params = draw({name: ((100, 90), "float32") for name in ("frozen", "trained")}, seed)
    grads = params | {"frozen": jnp.zeros_like(params["frozen"])}
    params["frozen"] = params["frozen"].at[0].set(-0.0)
    algorithm = RULES[rule](hidden_size=4, backend=used)

    @eqx.filter_jit
    def twice(algorithm: metaopt.AbstractAlgorithm, params: Any, grads: Any) -> tuple[Any, Any]:
        state = init(algorithm, params)
        state, new = step(algorithm, state, params, grads, jnp.asarray(1.0))
        return step(algorithm, state, new, grads, jnp.asarray(0.9))

    state, new = twice(algorithm, params, grads)
    assert np.asarray(new["frozen"]).tobytes() == np.asarray(params["frozen"]).tobytes()
    # An untrained VeLO moves less than rounding in most places.
    assert np.mean(new["trained"] != params["trained"]) > (0.001 if rule == "velo" else 0.5)
    assert [bool(state.started[name]) for name in ("frozen", "trained")] == [False, True]
