"""All of a front in one network, and learned optimizers of fronts, against the solver of fronts."""

import inspect
import time
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from ..._core import AbstractAlgorithm, AbstractTask, AbstractTaskFamily, Learner
from ...l2o import LearnableAdam
from ...meta import ConstantHorizon, MeanLogLoss, MetaProblem, Unrolled, meta_train
from ...multiobjective import (
    Gradients,
    PreferenceConditioned,
    Preferred,
    PreferredPopulation,
    SharedCurvature,
    hypervolume,
    learn_pareto_set,
    make_problem,
    pareto_front,
    preferences,
)
from ...multiobjective.fronts._problem import evaluate_objectives
from ...registry import adam, momentum
from ..base import Budget, Claim, Report, Rival
from ._front import counted, volume


_PROBLEMS = ("zdt1", "zdt2", "dtlz2")
_SAMPLES = 1000
# Of the learned optimizer and what it is compared with.
_DIMENSION, _MEMBERS, _SHARE = 16, 50, 0.95
_LONGEST, _HELD_OUT = 200, 8
_TRAINED_MEMBERS, _QUARTIC = 32, 0.1
_TRAINED_TASKS, _TRAINED_STEPS = 4, 8


class _Quadratic(AbstractTask[Float[Array, " n"], Gradients]):
    r"""Two objectives $q_i + a q_i^2$ of sums of squares $q_i = (x - c_i)^\top H_i (x - c_i) / 2$."""

    hessians: Float[Array, "2 n n"]
    centers: Float[Array, "2 n"]
    units: Float[Array, " n"]
    quartic: float = eqx.field(static=True)

    def init(self, *, key: PRNGKeyArray) -> Float[Array, " n"]:
        return 3 * self.units * jr.normal(key, self.units.shape, self.units.dtype)

    def values(self, x: Float[Array, " n"]) -> Float[Array, " 2"]:
        away = x[None] - self.centers
        squares = jnp.einsum("ij,ijk,ik->i", away, self.hessians, away) / 2
        return squares + self.quartic * jnp.square(squares)

    def evaluate(self, params: Float[Array, " n"], *, key: PRNGKeyArray) -> tuple[Float[Array, ""], Gradients]:
        del key
        return evaluate_objectives(self.values, params)

    def measure(self, params: Float[Array, " n"], *, key: PRNGKeyArray) -> Float[Array, ""]:
        del key
        return jnp.mean(self.values(params))

    def optimum(self, weights: Float[Array, " 2"]) -> Float[Array, " n"]:
        """Where a weighted sum of the squares is least: a point of the front, whatever the quartic part."""
        pull = jnp.einsum("i,ijk,ik->j", weights, self.hessians, self.centers)
        return jnp.linalg.solve(jnp.tensordot(weights, self.hessians, 1), pull)


class _Quadratics(AbstractTaskFamily):
    """Two objectives whose variables come in units of their own, between 0.1 and 10, and are correlated in each."""

    quartic: float = eqx.field(static=True, default=0.0)

    def sample(self, *, key: PRNGKeyArray) -> _Quadratic:
        keys = jr.split(key, 3)
        basis, _ = jnp.linalg.qr(jr.normal(keys[0], (2, _DIMENSION, _DIMENSION)))
        spectrum = jnp.asarray(np.geomspace(0.5, 2, _DIMENSION), basis.dtype)
        hessians = jnp.einsum("ijk,k,ilk->ijl", basis, spectrum, basis)
        units = 10 ** jr.uniform(keys[1], (_DIMENSION,), minval=-1, maxval=1)
        centers = jr.normal(keys[2], (2, _DIMENSION)) * units[None]
        return _Quadratic(hessians / (units[:, None] * units[None])[None], centers, units, self.quartic)


def _relative(values: Float[Array, "n 2"], ideal: Array, nadir: Array) -> Float[Array, ""]:
    return hypervolume((values - ideal[None]) / (nadir - ideal)[None], jnp.full(2, 1.1))


def _exact(problem: _Quadratic) -> tuple[Array, Array, Array]:
    """The ends of the front, and its hypervolume with as many members."""
    values = jax.vmap(lambda w: problem.values(problem.optimum(w)))(preferences(2, _MEMBERS))
    ideal, nadir = jnp.min(values, axis=0), jnp.max(values, axis=0)
    return ideal, nadir, _relative(values, ideal, nadir)


def _first(reached: Array) -> Array:
    """The first of the steps at which it is so, from one; one more than all if there is none."""
    return jnp.where(jnp.any(reached), jnp.argmax(reached) + 1, reached.shape[0] + 1)


def _steps_needed(algorithm: AbstractAlgorithm[Any, Any, Any], family: _Quadratics, key: PRNGKeyArray) -> Array:
    """How many steps of all members it takes, on one problem, until the front has the share of its hypervolume."""
    keys = jr.split(key)
    problem = family.sample(key=keys[0])
    ideal, nadir, best = _exact(problem)
    task = PreferredPopulation(problem, preferences(2, _MEMBERS))
    params = task.init(key=keys[1])

    def body(carry: tuple[Any, Any], _: None) -> tuple[tuple[Any, Any], Array]:
        state, params = carry
        signal = task.evaluate(params, key=key)[1]
        state, params = algorithm.step(state, params, signal)
        return (state, params), jax.vmap(problem.values)(params)

    _, values = jax.lax.scan(body, (algorithm.init(params), params), None, length=_LONGEST)
    volumes = jax.lax.map(lambda v: _relative(v, ideal, nadir), values)
    return _first(volumes >= _SHARE * best)


class _Sums(AbstractAlgorithm[Any, Any, Gradients]):
    """Weighted sums with the preferences of a population's members, on which a rule steps number by number."""

    inner: AbstractAlgorithm[Any, Any, Any]

    def init(self, params: Any, *, key: PRNGKeyArray | None = None) -> Any:
        return self.inner.init(params, key=key)

    def step(self, state: Any, params: Any, grads: Gradients, *, value: Any = None) -> tuple[Any, Any]:
        del value
        return self.inner.step(state, params, jnp.einsum("nm,mnd->nd", grads.preference, grads.gradients))


@eqx.filter_jit
def _needed(algorithm: AbstractAlgorithm[Any, Any, Any], family: _Quadratics, keys: Array) -> Array:
    return jax.lax.map(lambda key: _steps_needed(algorithm, family, key), keys)


def _solver(family: _Quadratics, tuning: Array, held_out: Array) -> dict[str, float]:
    """The fewest steps with which `pareto_front`, at its best rate, finds most of these fronts; then of the others.

    Its schedule depends on the number of steps, so each number is a run of its own. One step of ascent follows, and is
    counted.
    """

    @eqx.filter_jit
    def found(rate: Any, steps: int, keys: Array) -> Array:
        def one(key: PRNGKeyArray) -> Array:
            keys = jr.split(key)
            problem = family.sample(key=keys[0])
            ideal, nadir, best = _exact(problem)
            front = pareto_front(
                problem.values,
                num_solutions=_MEMBERS,
                start=lambda key: problem.init(key=key),
                weights=preferences(2, _MEMBERS),
                steps=steps,
                rounds=1,
                round_steps=1,
                rate=rate,
                key=keys[1],
            )
            return _relative(front.values, ideal, nadir) >= _SHARE * best

        return jax.lax.map(one, keys)

    rates, tried = (0.3, 1.0, 3.0, 10.0), 0
    for steps in (10, 14, 20, 28, 40, 56, 80, 112, 160):
        shares = {rate: float(jnp.mean(found(jnp.asarray(rate), steps, tuning))) for rate in rates}
        rate = max(rates, key=lambda rate: shares[rate])
        tried += len(rates) * tuning.shape[0] * (steps + 1)
        if shares[rate] > 0.5 and jnp.mean(found(jnp.asarray(rate), steps, held_out)) > 0.5:
            return {"rate": rate, "steps": steps + 1, "tried": tried}
    return {"rate": rate, "steps": 161, "tried": tried}


def _tuned(family: _Quadratics, keys: Array) -> tuple[str, AbstractAlgorithm[Any, Any, Any], int]:
    """Of the classical rules, the one that needs fewest steps on these problems; and how many all of them had."""
    candidates = {}
    for rate in (0.1, 0.3, 1.0, 3.0):
        candidates[f"Adam {rate}, 0.9"] = adam(rate, b2=0.99)
        candidates[f"Adam {rate}, 0.7"] = adam(rate, b1=0.7, b2=0.9)
    for rate in (0.003, 0.006, 0.012):
        for decay in (0.8, 0.9, 0.95):
            candidates[f"momentum {rate}, {decay}"] = momentum(rate, decay, nesterov=True)
    needed = {name: float(jnp.mean(_needed(_Sums(rule), family, keys))) for name, rule in candidates.items()}
    best = min(needed, key=lambda name: needed[name])
    return best, _Sums(candidates[best]), len(candidates) * keys.shape[0] * _LONGEST


def _trained(family: _Quadratics, seed: int, steps: int) -> AbstractAlgorithm[Any, Any, Any]:
    keys = jr.split(jr.key(seed))
    member = PreferenceConditioned(LearnableAdam(0.1, b1=0.5, b2=0.9), key=keys[0])
    problem = MetaProblem(
        Preferred(family, members=_TRAINED_MEMBERS),
        MeanLogLoss(),
        ConstantHorizon(_TRAINED_STEPS),
        tasks=_TRAINED_TASKS,
    )
    result = meta_train(
        Learner(SharedCurvature(member, key=keys[1])),
        problem,
        estimator=Unrolled(max_norm=1.0),
        outer=adam(3e-3),
        steps=steps,
        key=jr.key(seed),
        progress=False,
    )
    return result.learner.algorithm


def _row(name: str, seed: int) -> dict[str, Any]:
    problem = make_problem(name)
    assert problem.ideal is not None
    m = problem.ideal.shape[0]
    solve = eqx.filter_jit(lambda key: pareto_front(problem, num_solutions=100 if m == 2 else 91, key=key))
    solved = volume(np.asarray(solve(jr.key(seed)).values), problem)
    start = time.process_time()
    found = learn_pareto_set(problem, key=jr.key(seed))
    seconds = time.process_time() - start
    preferences = jr.dirichlet(jr.key(100 + seed), jnp.ones(m), (_SAMPLES,))
    values = jax.vmap(lambda w: problem.objectives(found(w)))(preferences)
    learned = volume(np.asarray(values), problem)
    return {
        "problem": name,
        "seed": seed,
        "solver": solved,
        "network": learned,
        "ratio": learned / solved,
        "CPU s": seconds,
    }


def _evaluations(quartic: float, seed: int, full: bool) -> dict[str, Any]:
    """Gradient evaluations per member and objective until the front is found, of those who learned and those tuned."""
    family = _Quadratics(quartic)
    tuning, held_out = jr.split(jr.key(2000 + seed), _HELD_OUT), jr.split(jr.key(1000 + seed), _HELD_OUT)
    name, rule, tried = _tuned(family, tuning)
    start = time.process_time()
    learned = _trained(family, seed, 600 if full else 200)
    seconds = time.process_time() - start
    solver = _solver(family, tuning, held_out)
    ours, classical = (_needed(algorithm, family, held_out) for algorithm in (learned, rule))
    return {
        "quartic": quartic,
        "seed": seed,
        "learned": float(jnp.mean(ours)),
        "most": int(jnp.max(ours)),
        "pareto_front": solver["steps"],
        "its rate": solver["rate"],
        "weighted sums": float(jnp.mean(classical)),
        "their rule": name,
        "steps to tune pareto_front": solver["tried"],
        "steps to tune weighted sums": tried,
        "meta-training, CPU s": seconds,
    }


def _default(function: Any, name: str) -> int:
    return inspect.signature(function).parameters[name].default


def run(*, full: bool = False) -> Report:
    """Run the benchmark; `full` takes three seeds, and meta-trains for longer."""
    seeds = list(range(3 if full else 1))
    rows = [_row(name, seed) for name in _PROBLEMS for seed in seeds]
    note = f"least over {', '.join(_PROBLEMS)}: {_SAMPLES} random preferences against the solver's front"
    # Members all do the same, so that a tenth of them is enough to count.
    searched = counted(make_problem(_PROBLEMS[0]), 10, _default(pareto_front, "steps"))
    claims = [
        Claim(
            "pareto_set_hypervolume",
            min(row["ratio"] for row in rows),
            note,
            budget=Budget(gradients=_default(learn_pareto_set, "steps") * _default(learn_pareto_set, "batch")),
            rival=Rival("`pareto_front`", Budget(gradients=10 * searched["gradients"])),
            unequal="a network is trained for longer; its figure is of 1000 points, the solver's of its 100 or 91",
            left_out="problems with many local fronts, constraints, other solvers",
        )
    ]
    held_out = f"least of {len(seeds)} seed(s), {_HELD_OUT} held-out problems, {_SHARE:.0%} of the exact hypervolume"
    rivals = {
        "": ("pareto_front", "against `pareto_front`, trials not counted"),
        "_weighted_sums": ("weighted sums", "against the best tuned rule on sums"),
    }
    for quartic, kind in ((0.0, ""), (_QUARTIC, "_quartic")):
        found = [_evaluations(quartic, seed, full) for seed in seeds]
        rows += found
        for suffix, (rival, against) in rivals.items():
            ratio = min(row[rival] / row["learned"] for row in found)
            work, trained = f"until {_SHARE:.0%} of the hypervolume", 600 if full else 200
            before = max(row[f"steps to tune {rival}"] for row in found)
            claims.append(
                Claim(
                    f"gradient_evaluations_ratio{suffix}{kind}",
                    ratio,
                    f"{against}; {held_out}",
                    budget=Budget(work=work, before=trained * _TRAINED_TASKS * _TRAINED_STEPS),
                    rival=Rival(f"{rival}, tuned", Budget(work=work, before=before)),
                    unequal="ours is meta-trained on this family of problems, the rival's rates are tuned on it; "
                    "`before` is in steps of populations",
                    left_out="the trials of `pareto_front`; quasi-Newton methods; other families",
                )
            )
    return Report(seeds, rows, claims)
