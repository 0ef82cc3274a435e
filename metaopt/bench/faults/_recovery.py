"""One bad number among good ones: what a guarded run loses."""

import inspect
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import jax.tree_util as jtu
import numpy as np
from jaxtyping import Array, Float, PyTree

from ..._core import AbstractAlgorithm, SkipNonFinite, with_horizon
from ...l2o import pretrained
from ...multiobjective import AbstractCombiner, Gradients, PreferenceConditioned, SharedCurvature
from ...registry import DEFAULT, build
from ..base import Claim


BAD = (np.nan, np.inf, -np.inf, 1e30, -1e30, float(np.finfo(np.float16).max))
PLACES = ("bias", "weight", "value")
# Healthy steps before a fault, and after it.
TIMES, AFTER = (0, 10, 50), 100
STEPS = max(TIMES) + 1 + AFTER
PRETRAINED = ("general", "small")
TOLERANCE = 1.05

_INNER = {"name": "adam", "learning_rate": 0.03}
# What has no default, and rates at which a run comes far enough for a rule that stops to be seen.
_NEEDED: dict[str, Any] = {
    **{"inner": _INNER, "fallback": {"name": "sgd", "learning_rate": 0.1}},
    **{"noisy": _INNER, "exact": {"name": "sgd", "learning_rate": 0.1}},
    **{"curve": [4.0, 3.0, 2.0, 1.0], "bounds": [1.0, 1.0], "parts": "*", "max_norm": 1.0},
    "control": {"name": "rate_multipliers", "factors": [0.9, 1.1]},
}
_SMALL = {"hidden_size": 4, "scheduler_size": 4, "bank_size": 3}
_RATES = {name: {"learning_rate": 0.03} for name in ("adam", "adamw")} | {
    name: {"rate": 0.03} for name in ("learnable_adam", "nn_adam", "celo2")
}
_MEMBERS = 3
# Each program runs once.
_QUICK: dict[str, bool | int | float | str] = {
    "xla_backend_optimization_level": 0,
    "xla_llvm_disable_expensive_passes": True,
}


class Fault(NamedTuple):
    """A number that takes the place of another one: which, where, and before which step."""

    bad: float
    place: str
    time: int


def faults() -> list[Fault]:
    """All faults. In the very first step only what is not finite: of a finite number nobody knows then."""
    return [
        Fault(bad, place, time) for time in TIMES for place in PLACES for bad in BAD if time or not np.isfinite(bad)
    ]


def names() -> list[str]:
    """All algorithms of the registry, and the weights that come with metaopt."""
    return [*DEFAULT.names(AbstractAlgorithm), *(f"pretrained {name}" for name in PRETRAINED)]


def make(name: str) -> AbstractAlgorithm[Any, Any, Any]:
    """An algorithm by its name in the registry: small, with what it needs."""
    if name.startswith("pretrained "):
        return pretrained(name.removeprefix("pretrained "))
    signature = inspect.signature(DEFAULT.get(AbstractAlgorithm, name))
    given = {
        key: _NEEDED[key]
        for key, option in signature.parameters.items()
        if option.default is inspect.Parameter.empty and option.kind is not inspect.Parameter.VAR_KEYWORD
    }
    given |= {key: size for key, size in _SMALL.items() if key in signature.parameters} | _RATES.get(name, {})
    if name == "shared_curvature":
        given["inner"] = {"name": "weighted_sum", "inner": _INNER}
    return build({"name": name, **given}, AbstractAlgorithm)


class _Problem(NamedTuple):
    """Least squares with noise, in two halves, so that the lowest loss is not zero."""

    x: Float[Array, "n 4"]
    y: Float[Array, "n 3"]

    def losses(self, params: PyTree) -> Float[Array, " 2"]:
        """The loss of each half."""
        errors = jnp.mean(jnp.square(self.x @ params["weight"] + params["bias"][None] - self.y), axis=1)
        return jnp.mean(errors.reshape(2, -1), axis=1)


def _draw(seed: Array) -> tuple[_Problem, PyTree]:
    keys = jr.split(jr.key(seed), 4)
    x = jr.normal(keys[0], (32, 4))
    y = x @ jr.normal(keys[1], (4, 3)) + 1.0 + 0.5 * jr.normal(keys[2], (32, 3))
    return _Problem(x, y), {"bias": jnp.zeros(3), "weight": 0.3 * jr.normal(keys[3], (4, 3))}


def run(
    algorithm: AbstractAlgorithm[Any, Any, Any],
    given: Sequence[Fault | None],
    seeds: Sequence[int],
    guard: Callable[[AbstractAlgorithm[Any, Any, Any]], AbstractAlgorithm[Any, Any, Any]] = SkipNonFinite,
) -> tuple[np.ndarray, np.ndarray]:
    """Run a guarded algorithm with each fault, all in one compiled program.

    **Arguments:**

    - `algorithm`: what is guarded.
    - `given`: faults; `None` is a run without.
    - `seeds`: of the problem and of the algorithm's key.
    - `guard`: what it is wrapped in.

    **Returns:**

    For each seed and fault, the loss at the end, and whether all parameters and the whole state are finite then.
    """
    combines = isinstance(algorithm, AbstractCombiner | PreferenceConditioned)
    peopled = isinstance(algorithm, SharedCurvature)
    guarded = with_horizon(guard(algorithm), STEPS)

    def signals(problem: _Problem, params: PyTree) -> tuple[Array, Array, PyTree]:
        """The loss, the two losses, and their derivatives, of a population on an axis after that of losses."""
        if peopled:
            losses = jax.vmap(problem.losses)(params).T
            slopes = jtu.tree_map(lambda g: jnp.swapaxes(g, 0, 1), jax.vmap(jax.jacrev(problem.losses))(params))
        else:
            losses, slopes = problem.losses(params), jax.jacrev(problem.losses)(params)
        return jnp.mean(losses), losses, slopes

    def one(seed: Array, bad: Array, place: Array, time: Array) -> tuple[Array, Array]:
        problem, params = _draw(seed)
        if peopled:
            params = jtu.tree_map(lambda p: jnp.stack([(1 + 0.1 * k) * p + 0.1 * k for k in range(_MEMBERS)]), params)

        def spoil(x: Array, index: int, now: Array) -> Array:
            first = jnp.zeros(x.size, bool).at[0].set(True).reshape(x.shape)
            return jnp.where(first & now & (place == index), bad.astype(x.dtype), x)

        def step(carry: tuple[Any, Any], t: Array) -> tuple[tuple[Any, Any], None]:
            state, params = carry
            value, losses, slopes = signals(problem, params)
            now = t == time
            value, losses = spoil(value, 2, now), spoil(losses, 2, now)
            slopes = {name: spoil(slopes[name], index, now) for index, name in enumerate(PLACES[:2])}
            signal = Gradients(slopes, losses) if combines or peopled else None
            signal = jtu.tree_map(lambda g: jnp.mean(g, axis=0), slopes) if signal is None else signal
            return guarded.step(state, params, signal, value=value), None

        start = guarded.init(params, key=jr.key(seed)), params
        (state, params), _ = jax.lax.scan(step, start, jnp.arange(STEPS))
        numbers = [x for x in jtu.tree_leaves((state, params)) if eqx.is_inexact_array(x)]
        return signals(problem, params)[0], jnp.all(jnp.stack([jnp.all(jnp.isfinite(x)) for x in numbers]))

    # Faults that are of no time do not happen.
    table = [fault or Fault(0.0, PLACES[0], -1) for fault in given]
    lanes = (
        jnp.asarray([fault.bad for fault in table], jnp.float32),
        jnp.asarray([PLACES.index(fault.place) for fault in table]),
        jnp.asarray([fault.time for fault in table]),
    )
    both = jax.vmap(jax.vmap(one, in_axes=(None, 0, 0, 0)), in_axes=(0, None, None, None))
    losses, finite = jax.jit(both, compiler_options=_QUICK)(jnp.asarray(seeds), *lanes)
    return np.asarray(losses), np.asarray(finite)


def recovered(
    algorithm: AbstractAlgorithm[Any, Any, Any],
    given: Sequence[Fault],
    seeds: Sequence[int],
    guard: Callable[[AbstractAlgorithm[Any, Any, Any]], AbstractAlgorithm[Any, Any, Any]] = SkipNonFinite,
) -> tuple[np.ndarray, np.ndarray]:
    """Of each seed and fault, whether all is finite at the end, and how many times the loss of the run without a fault
    the loss is. A run that rises by itself is held against itself in the same way: one step less makes it rise less."""
    losses, finite = run(algorithm, [None, *given], seeds, guard)
    ratios = losses[:, 1:] / losses[:, :1]
    return finite[:, 1:], ratios


def measure(
    *, full: bool, only: Sequence[str] | None = None, seeds: Sequence[int] = (0, 1)
) -> tuple[list[dict[str, Any]], list[Claim]]:
    """Count the faults after which guarded algorithms recover.

    **Arguments:**

    - `full`: ten seeds.
    - `only`: some of the algorithms.
    - `seeds`: of problems.

    **Returns:**

    A row for each algorithm, and the claim `recovered_share`.
    """
    seeds = range(10) if full else seeds
    rows, found, total = [], 0, 0
    for name in names() if only is None else only:
        finite, ratios = recovered(make(name), faults(), seeds)
        good = finite & (ratios <= TOLERANCE)
        worst = [fault for fault, fine in zip(faults(), np.all(good, axis=0), strict=True) if not fine]
        rows.append(
            {
                "algorithm": name,
                "faults": good.size,
                "recovered": int(np.sum(good)),
                "finite": int(np.sum(finite)),
                "worst loss ratio": float(np.max(np.nan_to_num(ratios, nan=np.inf))),
                "lost": "; ".join(f"{fault.bad:g} in {fault.place} before step {fault.time}" for fault in worst[:3]),
            }
        )
        found, total = found + int(np.sum(good)), total + good.size
    note = (
        f"{found} of {total}: {len(rows)} algorithms in `skip_non_finite`, seeds {list(seeds)}, least squares with "
        f"noise, {STEPS} steps with one fault before step {', '.join(map(str, TIMES))} (finite ones not before the "
        "first); recovered if all is finite and the loss at most 5% above that of the run without the fault"
    )
    return rows, [Claim("recovered_share", found / total, note)]
