"""Parametric differential equations: what solved members of a family are worth to a new one."""

import dataclasses
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import jax.tree_util as jtu
import numpy as np
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float, Key, PyTree

from .._core import AbstractAlgorithm, Inner, Learner, inner_step, with_horizon
from ..evaluate import BASELINES, steps_to_target
from ..fewshot import KernelRidge, NearestNeighbor, WarmStart
from ..l2o import PreconditionedDescent
from ..meta import ConstantHorizon, MeanLogLoss, MetaProblem, Unrolled, meta_train
from ..physics import BurgersViscosities, HelmholtzWaveNumbers, PoissonSources
from ..schedules import Cosine
from .base import Claim, Report


_TARGET = 1e-2
_KNOWN, _TUNING, _TESTS, _EXTRAPOLATED = 16, 4, 6, 2
_SOLVING = 1500
_BUDGETS = {"random": 2000, "nearest": 500, "predicted": 500, "mean": 500}
_RATES = np.logspace(-3.5, -1.5, 7)


@dataclasses.dataclass(frozen=True)
class Family:
    """A family and what lies outside of it."""

    inside: Any
    outside: Any


FAMILIES = {
    "poisson source": Family(PoissonSources(interior=200), PoissonSources(spread=1.0, interior=200)),
    "burgers viscosity": Family(BurgersViscosities(interior=200), BurgersViscosities(0.03, 0.05, interior=200)),
    "helmholtz wave number": Family(
        HelmholtzWaveNumbers(interior=200), HelmholtzWaveNumbers(3.5, 3.9, interior=200)
    ),
}  # fmt: skip


def curves(
    algorithm: AbstractAlgorithm[Any, Any, Any], family: Any, keys: Key[Array, " n"], starts: PyTree, steps: int
) -> Float[Array, "n steps"]:
    """Relative errors before each step, of tasks that each have a start."""
    planned = with_horizon(algorithm, steps)

    def one(xs: tuple[Any, Any]) -> Float[Array, " steps"]:
        key, start = xs
        task = family.sample(key=key)
        points = task.tests[0].x
        wanted = task.reference(points)[:, None]

        def body(carry: Any, _: None) -> tuple[Any, Any]:
            error = jnp.linalg.norm(task.solution(carry.params, points) - wanted) / jnp.linalg.norm(wanted)
            return inner_step(planned, task, carry, key=key)[0], error

        return jax.lax.scan(body, Inner(planned.init(start), start), None, length=steps)[1]

    return jax.vmap(one)((keys, starts)) if keys.shape[0] > 1 else jax.lax.map(one, (keys, starts))


@eqx.filter_jit
def _run(rate: Float[Array, ""], family: Any, keys: Key[Array, " n"], starts: PyTree, steps: int) -> Array:
    return curves(BASELINES["adam"](rate), family, keys, starts, steps)


@eqx.filter_jit
def _run_learned(rule: Any, family: Any, keys: Key[Array, " n"], starts: PyTree, steps: int) -> Array:
    return curves(rule, family, keys, starts, steps)


@eqx.filter_jit
def solve(family: Any, keys: Key[Array, " n"], start: PyTree) -> tuple[PyTree, Float[Array, "n k"]]:
    """Solutions of tasks from one start, by Adam with a cosine, and the features of the tasks."""
    adam = with_horizon(Cosine(BASELINES["adam"](1e-2)), _SOLVING)

    def one(key: Any) -> tuple[PyTree, Array]:
        task = family.sample(key=key)

        def body(carry: Any, _: None) -> tuple[Any, None]:
            return inner_step(adam, task, carry, key=key)[0], None

        carry = jax.lax.scan(body, Inner(adam.init(start), start), None, length=_SOLVING)[0]
        return carry.params, family.features(task)

    return jax.vmap(one)(keys)


def _memory(params: PyTree, features: Float[Array, "n k"], predictor: Any) -> WarmStart:
    like = jtu.tree_map(lambda x: x[0], params)
    spread = jnp.std(features, axis=0) * (1.0 if features.shape[1] == 1 else 4.0)
    memory = WarmStart(like, features.shape[1], capacity=_KNOWN, predictor=predictor, scales=spread, threshold=0.0)
    for i in range(_KNOWN):
        memory = memory.add(features[i], jtu.tree_map(lambda x, i=i: x[i], params))
    return memory


@eqx.filter_jit
def curvature(family: Any, keys: Key[Array, " n"], params: PyTree, damping: float) -> Float[Array, "p p"]:
    """The inverse of the mean Gauss-Newton matrix of tasks at one place."""

    def one(key: Any) -> Array:
        _, jacobian = family.sample(key=key).objective(key=key).system(params)
        return jacobian.T @ jacobian

    matrix = jnp.mean(jax.lax.map(one, keys), axis=0)
    size = matrix.shape[0]
    return jnp.linalg.inv(matrix + damping * jnp.trace(matrix) / size * jnp.eye(size)) / 2


def learned_rule(family: Any, keys: Key[Array, " n"], start: PyTree, *, key: Any) -> AbstractAlgorithm[Any, Any, Any]:
    """A rule whose matrix is the inverse curvature of solved tasks, and whose rates are meta-trained."""
    size = ravel_pytree(start)[0].shape[0]
    rule = PreconditionedDescent(20, size=size, learning_rate=0.5)
    rule = eqx.tree_at(lambda r: r.matrix, rule, curvature(family, keys, start, 1e-4))

    # Of the rates and momenta alone: the matrix is as good as known, and the start is what is compared from.
    def trained(learner: Learner) -> Learner:
        frozen = jtu.tree_map(lambda _: False, learner)
        return eqx.tree_at(lambda x: (x.algorithm.log_rates, x.algorithm.momenta), frozen, (True, True))

    problem = MetaProblem(family, MeanLogLoss(), ConstantHorizon(20), tasks=4, trainable=trained)
    outer = BASELINES["adam"](1e-2)
    learner = Learner(rule, start)
    result = meta_train(learner, problem, estimator=Unrolled(), outer=outer, steps=30, key=key, progress=False)
    return result.learner.algorithm


def _steps(found: Float[np.ndarray, "n steps"]) -> Float[np.ndarray, " n"]:
    """Steps to the target; the budget where it is not reached, and at least one."""
    reached = [min(steps_to_target(curve, _TARGET), len(curve)) for curve in found]
    return np.maximum(np.asarray(reached), 1.0)


def _geometric(values: Any) -> float:
    return float(np.exp(np.mean(np.log(values))))


def _repeat(tree: PyTree, count: int) -> PyTree:
    return jtu.tree_map(lambda x: jnp.broadcast_to(x, (count, *x.shape)), tree)


class _Starts:
    """Where tasks start, by each way."""

    def __init__(self, family: Any, seed: int):
        draw, known = jr.split(jr.key(seed))
        self.family = family
        self.cold = family.sample(key=draw).init(key=draw)
        self.keys = jr.split(known, _KNOWN)
        params, features = solve(family, self.keys, self.cold)
        self.mean = jtu.tree_map(lambda x: jnp.mean(x, axis=0), params)
        self._memories = {
            "nearest": _memory(params, features, NearestNeighbor()),
            "predicted": _memory(params, features, KernelRidge()),
        }

    def of(self, name: str, keys: Key[Array, " n"], family: Any) -> PyTree:
        if name == "random":
            return jax.vmap(lambda key: family.sample(key=key).init(key=jr.fold_in(key, 7)))(keys)
        if name == "mean":
            return _repeat(self.mean, keys.shape[0])
        memory = self._memories[name]
        starts = [memory.predict(family.features(family.sample(key=key))).params for key in keys]
        return jtu.tree_map(lambda *x: jnp.stack(x), *starts)


def _tuned(starts: _Starts, family: Any) -> dict[str, float]:
    """For each start the rate of Adam with the fewest steps, on tasks for nothing else."""
    keys = jr.split(jr.key(999), _TUNING)
    rates = {}
    for name, budget in _BUDGETS.items():
        begin = starts.of(name, keys, family)
        steps = [_geometric(_steps(np.asarray(_run(jnp.asarray(r), family, keys, begin, budget)))) for r in _RATES]
        rates[name] = float(_RATES[int(np.argmin(steps))])
    return rates


def run(*, full: bool = False) -> Report:
    """Each family with each seed: `full` takes five seeds."""
    seeds = 5 if full else 2
    rows, per_family = [], []
    for title, family in FAMILIES.items():
        found: dict[str, list[float]] = {}
        rates: dict[str, float] = {}
        for seed in range(seeds):
            starts = _Starts(family.inside, seed)
            if not rates:
                rates = _tuned(starts, family.inside)
            keys = jr.split(jr.key(10_000 + seed), _TESTS)
            outside = jr.split(jr.key(20_000 + seed), _EXTRAPOLATED)
            for name, budget in _BUDGETS.items():
                for kind, where, some in (("", family.inside, keys), (" outside", family.outside, outside)):
                    begin = starts.of(name, some, where)
                    curve = _run(jnp.asarray(rates[name]), where, some, begin, budget)
                    found.setdefault(name + kind, []).extend(_steps(np.asarray(curve)))
            rule = learned_rule(family.inside, starts.keys, starts.mean, key=jr.key(seed))
            begin = starts.of("mean", keys, family.inside)
            curve = _run_learned(rule, family.inside, keys, begin, _BUDGETS["mean"])
            found.setdefault("learned rule", []).extend(_steps(np.asarray(curve)))
        steps = {name: _geometric(values) for name, values in found.items()}
        rows.append({"family": title} | steps | {f"rate, {name}": rate for name, rate in rates.items()})
        per_family.append(steps)

    def claim(name: str, slow: str, fast: str, note: str) -> Claim:
        ratios = [steps[slow] / steps[fast] for steps in per_family]
        listed = ", ".join(f"{title} {ratio:.3g}" for title, ratio in zip(FAMILIES, ratios, strict=True))
        return Claim(name, min(ratios), f"the lowest of the families: {listed}; {note}")

    claims = [
        claim("steps_vs_random", "random", "predicted", f"Adam, tuned for each start, to an error of {_TARGET:g}"),
        claim("steps_vs_nearest", "nearest", "predicted", "the same"),
        claim("learned_vs_adam", "mean", "learned rule", "both from the mean of the known solutions"),
        claim("steps_vs_random_outside", "random outside", "predicted outside", "parameters beyond those of training"),
    ]
    notes = [
        f"Steps to a relative error of {_TARGET:g}, geometric means of {_TESTS} held-out tasks and {seeds} "
        f"seeds. Known: {_KNOWN} tasks, solved from one start, so that kernel ridge regression of their weights makes "
        "sense (`WarmStart`). The nearest neighbor is one of the same solutions. Where the target is not reached, the "
        "budget counts.",
        "The learned rule is `PreconditionedDescent`: its matrix is the inverse mean Gauss-Newton matrix of the known "
        "tasks, its rates and momenta are meta-trained.",
    ]
    return Report(list(range(seeds)), rows, claims, notes)
