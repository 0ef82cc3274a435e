"""Starts from solved problems against cold starts, with the same tuned solver."""

import abc
import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import jax.tree_util as jtu
import numpy as np
import optax
from jaxtyping import Array, Float, Int, PRNGKeyArray, PyTree

from ..._core import AbstractAlgorithm, from_optax, minimize
from ...evaluate import BASELINES, report
from ...evaluate._text import cell
from ...fewshot import AbstractPredictor, GaussianProcess, KernelRidge, NearestNeighbor, WarmStart
from ...scf import Switching, System, unroll
from ...scf.guesses._guess import initial, natural
from ...scf.systems._operator import loewdin
from ...tasks._common import rotation
from ..base import Budget, Claim, Report, Rival


_SEEDS = 5
_TARGETS = (1e-3, 1e-4, 1e-6)
_TARGET = _TARGETS[-1]
_BUDGET = 2000
_TUNING_BUDGET = 500
_TESTS = 24
_TUNING = 8
_RIDGE = 1e-6
_CYCLES = 25
_CLAIMED = "kernel ridge"
_PICTURE = Path("runs", "warm-start.png")

_Data = PyTree
_Problem = PyTree


class _Run(NamedTuple):
    """Steps until the value of each target, and where the last one was met."""

    steps: Int[Array, " targets"]
    params: Array


class _AbstractKind(abc.ABC):
    """What problems of a family are."""

    @abc.abstractmethod
    def drawn(self, *, key: PRNGKeyArray) -> _Data:
        """What all problems of a seed share."""

    @abc.abstractmethod
    def problems(self, features: Float[Array, "n d"]) -> _Problem:
        """Arrays that tell problems apart, with a leading axis."""

    @abc.abstractmethod
    def cold(self, problem: _Problem, data: _Data) -> Array:
        """Where a cold start is."""

    @abc.abstractmethod
    def value(self, params: Array, problem: _Problem, data: _Data) -> Float[Array, ""]:
        """What is minimized."""

    @abc.abstractmethod
    def minimum(self, problem: _Problem, data: _Data) -> Float[Array, ""]:
        """The lowest value, from the cold start."""

    @abc.abstractmethod
    def run(
        self, solver: Any, start: Array, problem: _Problem, data: _Data, levels: Array, budget: int = _BUDGET
    ) -> _Run:
        """Run until the lowest of the levels is met; `budget` steps stand for never."""

    @abc.abstractmethod
    def best_solver(self, features: Float[Array, "n d"], *, key: PRNGKeyArray) -> tuple[Any, dict[str, Any]]:
        """The solver with the fewest median steps from cold starts, on problems for nothing else; and how all did."""

    def levels(self, problem: _Problem, data: _Data) -> Float[Array, " targets"]:
        """Values at which a share of the way from the cold start to the minimum is left."""
        cold, low = self.value(self.cold(problem, data), problem, data), self.minimum(problem, data)
        return low + jnp.asarray(_TARGETS) * (cold - low)


@dataclasses.dataclass(frozen=True)
class _Smooth(_AbstractKind):
    """Functions with gradients.

    - `draw`: the data.
    - `function`: of parameters, features and data.
    - `begin`: where a cold start is, given the data.
    """

    draw: Callable[..., _Data]
    function: Callable[[Array, Array, _Data], Float[Array, ""]]
    begin: Callable[[_Data], Array]

    def drawn(self, *, key: PRNGKeyArray) -> _Data:
        return self.draw(key=key)

    def problems(self, features: Float[Array, "n d"]) -> _Problem:
        return features

    def cold(self, problem: _Problem, data: _Data) -> Array:
        del problem
        return self.begin(data)

    def value(self, params: Array, problem: _Problem, data: _Data) -> Float[Array, ""]:
        return self.function(params, problem, data)

    def minimum(self, problem: _Problem, data: _Data) -> Float[Array, ""]:
        exact, cold = _lbfgs(jnp.asarray(0.9)), self.begin(data)
        return minimize(
            lambda x: self.function(x, problem, data), exact, cold, steps=10 * _BUDGET, tolerance=1e-7
        ).value

    def run(
        self, solver: Any, start: Array, problem: _Problem, data: _Data, levels: Array, budget: int = _BUDGET
    ) -> _Run:
        def look(params: Array) -> tuple[Array, Array]:
            return jax.value_and_grad(self.function)(params, problem, data)

        def go_on(carry: Any) -> Array:
            (value, _), _, _, step, _ = carry
            return (step < budget) & ~(value <= levels[-1]) & jnp.isfinite(value)

        def body(carry: Any) -> Any:
            (value, grads), state, params, step, met = carry
            state, params = solver.step(state, params, grads, value=value)
            seen = look(params)
            return seen, state, params, step + 1, jnp.where(seen[0] <= levels, jnp.minimum(met, step + 1), met)

        seen, step = look(start), jnp.asarray(0)
        met = jnp.where(seen[0] <= levels, step, budget)
        _, _, params, _, met = jax.lax.while_loop(go_on, body, (seen, solver.init(start), start, step, met))
        return _Run(met, params)

    def best_solver(self, features: Float[Array, "n d"], *, key: PRNGKeyArray) -> tuple[Any, dict[str, Any]]:
        data, row = self.draw(key=key), dict[str, Any]()
        best: tuple[float, str, Any] = (np.inf, "", None)
        for name, (make, rates) in _SOLVERS.items():
            steps = np.asarray(_tune(self, make, jnp.asarray(rates), features, data))
            at = int(np.argmin(steps))
            row[name] = float(steps[at]) if steps[at] < _TUNING_BUDGET else f"> {_TUNING_BUDGET}"
            row[f"{name}: rate"] = float(rates[at])
            best = min(best, (float(steps[at]), name, make(jnp.asarray(rates[at]))), key=lambda found: found[0])
        return best[2], row | {"chosen": best[1]}


@dataclasses.dataclass(frozen=True)
class _Geometries(_AbstractKind):
    """Self-consistent fields of a molecule of three atoms, with two distances (Angstrom) and the angle (degrees) for
    features. Parameters are densities in the symmetrically orthonormalized basis, and steps are cycles."""

    atoms: str = "OHH"
    basis: str = "cc-pvdz"

    def _systems(self, features: Float[np.ndarray, "n d"]) -> System:
        first, second, angle = np.asarray(features).T
        turn, zero = np.deg2rad(angle), np.zeros_like(first)
        ends = [np.stack([first, zero, zero], -1), np.stack([second * np.cos(turn), second * np.sin(turn), zero], -1)]
        positions = np.stack([np.zeros_like(ends[0]), *ends], axis=1)
        molecule = [(atom, tuple(at)) for atom, at in zip(self.atoms, positions[0].tolist(), strict=True)]
        return System.geometries(molecule, positions, basis=self.basis)

    def drawn(self, *, key: PRNGKeyArray) -> _Data:
        """What is static in all systems."""
        del key
        return eqx.filter(self._systems(np.asarray([[1.0, 1.0, 105.0]])), eqx.is_array, inverse=True)

    def problems(self, features: Float[Array, "n d"]) -> _Problem:
        return eqx.filter(self._systems(np.asarray(features)), eqx.is_array)

    def cold(self, problem: _Problem, data: _Data) -> Array:
        operator, root, _ = loewdin(eqx.combine(problem, data))
        return initial(operator, root, None)

    def value(self, params: Array, problem: _Problem, data: _Data) -> Float[Array, ""]:
        operator, _, _ = loewdin(eqx.combine(problem, data))
        return operator.fock(natural(params, operator.system.counts))[1]

    def minimum(self, problem: _Problem, data: _Data) -> Float[Array, ""]:
        return unroll(eqx.combine(problem, data), Switching(), cycles=_CYCLES).energies[-1]

    def run(
        self, solver: Any, start: Array, problem: _Problem, data: _Data, levels: Array, budget: int = _BUDGET
    ) -> _Run:
        system: System = eqx.combine(problem, data)
        operator, root, _ = loewdin(system)
        seen = unroll(system, solver, cycles=_CYCLES, guess=operator.out_of(start))
        met = seen.energies[:, None] <= levels[None]
        steps = jnp.where(jnp.any(met, axis=0), jnp.argmax(met, axis=0), budget)
        return _Run(steps, root @ seen.density @ root)

    def best_solver(self, features: Float[Array, "n d"], *, key: PRNGKeyArray) -> tuple[Any, dict[str, Any]]:
        del features, key
        return Switching(), {"chosen": "ADIIS, then CDIIS: the default of `scf.solve`"}


@dataclasses.dataclass(frozen=True)
class _Family:
    """Problems that differ in a few numbers, their features; all else is drawn once per seed.

    - `low`, `high`: the range of each feature.
    - `known`: how many problems are in memory before the first that is counted.
    - `in_order`: whether problems come in the order of their (one) feature, as of time.
    """

    name: str
    kind: _AbstractKind
    low: tuple[float, ...]
    high: tuple[float, ...]
    known: int
    in_order: bool = False

    def features(self, count: int, *, key: PRNGKeyArray) -> Float[Array, "{count} d"]:
        low, high = jnp.asarray(self.low), jnp.asarray(self.high)
        if self.in_order:
            return jnp.linspace(low, high, count)
        return low[None] + (high - low)[None] * jr.uniform(key, (count, low.size))


def _drifting(*, key: PRNGKeyArray) -> _Data:
    keys = jr.split(key, 4)
    dimension, waves = 30, 3
    turn, rates = rotation(dimension, key=keys[0]), jnp.logspace(0, -3, dimension)
    frequencies = jr.uniform(keys[1], (waves, dimension), minval=0.2, maxval=1.5)
    phases = jr.uniform(keys[2], (waves, dimension), maxval=2 * jnp.pi)
    return (turn * rates[None]) @ turn.T, jr.normal(keys[3], (waves, dimension)), frequencies, phases


def _quadratic(x: Array, z: Array, data: _Data) -> Float[Array, ""]:
    matrix, amplitudes, frequencies, phases = data
    error = x - jnp.sum(amplitudes * jnp.sin(2 * jnp.pi * frequencies * z[0] + phases), axis=0)
    return 0.5 * error @ matrix @ error


def _digit_images(*, key: PRNGKeyArray) -> _Data:
    from ...tasks.families._digits import digits

    data = digits("train")
    chosen = jr.choice(key, len(data["labels"]), (600,), replace=False)
    return jnp.asarray(data["inputs"], float)[chosen], jnp.asarray(data["labels"])[chosen]


def _logistic(x: Array, z: Array, data: _Data) -> Float[Array, ""]:
    inputs, labels = data
    logits = inputs @ x[:-1] + x[-1][None]
    losses = optax.softmax_cross_entropy_with_integer_labels(logits, labels)
    return jnp.mean(losses) + 0.5 * jnp.exp(z[0]) * jnp.sum(jnp.square(x[:-1]))


def _medium(*, key: PRNGKeyArray) -> _Data:
    """A conductivity that varies, the same for all problems of a seed."""
    points, modes = 64, jnp.arange(1.0, 5.0)
    middle = (jnp.arange(points) + 0.5) / points
    return jnp.exp(0.3 * jnp.cos(jnp.pi * middle[:, None] * modes[None]) @ jr.normal(key, modes.shape))


def _energy(u: Array, z: Array, data: _Data) -> Float[Array, ""]:
    h = 1 / data.size
    x, middle = jnp.arange(1, data.size) * h, (jnp.arange(data.size) + 0.5) * h
    conductivity = data * jnp.exp(z[0] * jnp.cos(jnp.pi * middle))
    source = 100.0 * jnp.exp(-0.5 * jnp.square((x - z[2]) / 0.15))
    slopes = jnp.diff(u, prepend=0.0, append=0.0) / h
    return h * (0.5 * jnp.sum(conductivity * slopes**2) + jnp.sum(jnp.exp(z[1]) * u**4 / 4 - source * u))


_FAMILIES = (
    _Family(
        "quadratics, drifting optimum",
        _Smooth(_drifting, _quadratic, lambda data: jnp.zeros(data[0].shape[0])),
        low=(0.0,),
        high=(2.0,),
        known=16,
        in_order=True,
    ),
    _Family(
        "logistic regression on digits, weight of the regularization",
        _Smooth(_digit_images, _logistic, lambda data: jnp.zeros((data[0].shape[1] + 1, 10))),
        low=(float(np.log(1e-4)),),
        high=(float(np.log(1e-1)),),
        known=10,
    ),
    _Family(
        "nonlinear reaction-diffusion, contrast, reaction and source",
        _Smooth(_medium, _energy, lambda data: jnp.zeros(data.size - 1)),
        low=(-1.0, 0.0, 0.3),
        high=(1.0, 4.0, 0.7),
        known=32,
    ),
    _Family(
        "self-consistent fields of water, distances and angle",
        _Geometries(),
        low=(0.85, 0.85, 95.0),
        high=(1.1, 1.1, 115.0),
        known=32,
    ),
)


def _lbfgs(rate: Float[Array, ""]) -> AbstractAlgorithm[Any, Any, Any]:
    return from_optax(optax.lbfgs, learning_rate=rate, memory_size=10, linesearch=None)


def _nesterov(rate: Float[Array, ""]) -> AbstractAlgorithm[Any, Any, Any]:
    return from_optax(optax.sgd, learning_rate=rate, momentum=0.95, nesterov=True)


_SOLVERS = {
    "L-BFGS": (_lbfgs, np.logspace(-1.2, 0.2, 12)),
    "Adam": (BASELINES["adam"], np.logspace(-2.5, 0.5, 13)),
    "Nesterov momentum 0.95": (_nesterov, np.logspace(-3.5, 1, 13)),
}
_PREDICTORS: dict[str, Callable[[], AbstractPredictor]] = {
    "nearest neighbor": NearestNeighbor,
    "kernel ridge": lambda: KernelRidge(_RIDGE),
    "Gaussian process": lambda: GaussianProcess(_RIDGE),
}


@eqx.filter_jit
def _cold_runs(family: _Family, solver: Any, problems: _Problem, data: _Data) -> tuple[Float[Array, "n targets"], _Run]:
    def one(problem: _Problem) -> tuple[Array, _Run]:
        levels = family.kind.levels(problem, data)
        return levels, family.kind.run(solver, family.kind.cold(problem, data), problem, data, levels)

    return jax.lax.map(one, problems)


@eqx.filter_jit
def _tune(kind: _Smooth, make: Callable[..., Any], rates: Array, features: Array, data: _Data) -> Array:
    """The median steps to the target with each rate."""
    levels = jax.lax.map(lambda z: kind.levels(z, data), features)

    def one(rate: Array) -> Array:
        def steps(z: Array, level: Array) -> Array:
            return kind.run(make(rate), kind.cold(z, data), z, data, level, _TUNING_BUDGET).steps[-1]

        return jnp.median(jax.vmap(steps)(features, levels))

    return jax.lax.map(one, rates)


class _Warm(NamedTuple):
    """What became of a start: steps to the targets, whether it was a warm one, the similarity of the nearest."""

    steps: Int[Array, "n targets"]
    warm: Array
    similarity: Float[Array, " n"]


def _known(family: _Family, predictor: AbstractPredictor, features: Array, params: Array, capacity: int) -> WarmStart:
    """A memory of solved problems, with scales found from these."""
    scales = jnp.asarray(family.high) - jnp.asarray(family.low)
    memory = WarmStart(params[0], scales.size, capacity=capacity, predictor=predictor, scales=scales)
    memory, _ = jax.lax.scan(lambda memory, xs: (memory.add(*xs), None), memory, (features, params))
    return memory.tuned()


class _Ahead(NamedTuple):
    """Problems that are to be solved, in their order."""

    features: Float[Array, "n d"]
    problems: _Problem
    levels: Float[Array, "n targets"]


def _warm_run(
    family: _Family, solver: Any, memory: WarmStart, one: _Ahead, data: _Data
) -> tuple[_Run, tuple[Array, Array, Array]]:
    """Solve one problem from its guarded start."""
    z, problem, levels = one
    cold = family.kind.cold(problem, data)
    start = memory.guarded_start(z, cold, lambda x: family.kind.value(x, problem, data))
    run = family.kind.run(solver, start.params, problem, data, levels)
    return run, (run.steps, start.warm, memory.predict(z).similarity)


@eqx.filter_jit
def _stream(
    family: _Family,
    solver: Any,
    predictor: AbstractPredictor,
    solved: tuple[Array, Array],
    ahead: _Ahead,
    data: _Data,
) -> _Warm:
    """Problems one after the other, each solved from a guarded start to the target and then remembered."""
    memory = _known(family, predictor, *solved, capacity=len(solved[0]) + len(ahead.features))
    dynamic, static = eqx.partition(memory, eqx.is_array)

    def one(dynamic: PyTree, ahead: _Ahead) -> tuple[PyTree, tuple[Array, Array, Array]]:
        memory = eqx.combine(dynamic, static)
        run, found = _warm_run(family, solver, memory, ahead, data)
        return eqx.filter(memory.add(ahead.features, run.params), eqx.is_array), found

    return _Warm(*jax.lax.scan(one, dynamic, ahead)[1])


@eqx.filter_jit
def _sparse_memories(
    family: _Family, solver: Any, solved: tuple[Array, Array], sizes: Array, ahead: _Ahead, data: _Data
) -> _Warm:
    """The same with memories that hold a few of the solved problems only, and trust all of them; for each size, the
    problems in their order."""
    latest_first = tuple(x[::-1] for x in solved)
    memory = _known(family, KernelRidge(_RIDGE), *latest_first, capacity=len(solved[0]))
    memory = eqx.tree_at(lambda x: x.threshold, memory, jnp.zeros(()))

    def one(size: Array, ahead: _Ahead) -> tuple[Array, Array, Array]:
        few = eqx.tree_at(lambda x: x.count, memory, size.astype(memory.count.dtype))
        return _warm_run(family, solver, few, ahead, data)[1]

    found = jax.lax.map(lambda size: jax.lax.map(lambda each: one(size, each), ahead), sizes)
    return _Warm(*(x.reshape(-1, *x.shape[2:]) for x in found))


class _Outcome(NamedTuple):
    """All problems of a family with one predictor, over all seeds."""

    cold: Int[np.ndarray, "n targets"]
    warm: Int[np.ndarray, "n targets"]
    taken: np.ndarray
    similarity: np.ndarray

    @property
    def ratios(self) -> Float[np.ndarray, "n targets"]:
        """Cold steps over warm ones; a problem that is solved before its first step counts as one step."""
        return np.maximum(self.cold, 1) / np.maximum(self.warm, 1)

    @property
    def extra(self) -> Int[np.ndarray, "n targets"]:
        """Evaluations of a warm start beyond those of a cold one: its steps, and the guard's look at the cold start."""
        return self.warm + 1 - self.cold


def _measure(family: _Family, solver: Any) -> tuple[dict[str, _Outcome], _Outcome]:
    """Each predictor on the stream of each seed; and memories of all sizes."""
    found: dict[str, list[_Outcome]] = {name: [] for name in _PREDICTORS}
    sparse = []
    for seed in range(_SEEDS):
        data_key, features_key = jr.split(jr.key(seed))
        data = family.kind.drawn(key=data_key)
        features = family.features(family.known + _TESTS, key=features_key)
        problems = family.kind.problems(features)
        levels, cold = _cold_runs(family, solver, problems, data)
        pairs = features[: family.known], cold.params[: family.known]
        ahead, steps = jtu.tree_map(lambda x: x[family.known :], (_Ahead(features, problems, levels), cold.steps))
        for name, make in _PREDICTORS.items():
            found[name].append(_outcome(steps, _stream(family, solver, make(), pairs, ahead, data)))
        sizes = jnp.asarray(np.unique(np.geomspace(1, family.known, 6).astype(int)))
        warm = _sparse_memories(family, solver, pairs, sizes, ahead, data)
        sparse.append(_outcome(jnp.tile(steps, (sizes.size, 1)), warm))
    return {name: _joined(outcomes) for name, outcomes in found.items()}, _joined(sparse)


def _outcome(cold: Array, warm: _Warm) -> _Outcome:
    return _Outcome(*(np.asarray(x) for x in (cold, warm.steps, warm.warm, warm.similarity)))


def _joined(outcomes: list[_Outcome]) -> _Outcome:
    return _Outcome(*(np.concatenate(parts) for parts in zip(*outcomes, strict=True)))


def _rows(family: str, outcomes: dict[str, _Outcome]) -> list[dict[str, Any]]:
    rows = []
    for name, found in outcomes.items():
        rows += [
            {
                "family": family,
                "predictor": name,
                "share of the gap left": f"{target:g}",
                "cold steps": float(np.median(found.cold[:, i])),
                "warm steps": float(np.median(found.warm[:, i])),
                "ratio": float(np.median(found.ratios[:, i])),
                "worst ratio": float(np.min(found.ratios[:, i])),
                "worst extra evaluations": int(np.max(found.extra[:, i])),
                "started warm": float(np.mean(found.taken)),
            }
            for i, target in enumerate(_TARGETS)
        ]
    return rows


def _curve(found: _Outcome) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The median gain and its quartiles, in groups of equal size along the similarity."""
    order = np.argsort(found.similarity, kind="stable")
    groups = np.array_split(order, min(12, order.size))
    gains = found.ratios[:, -1]
    middle = np.asarray([np.median(found.similarity[group]) for group in groups])
    quartiles = np.asarray([np.quantile(gains[group], [0.25, 0.5, 0.75]) for group in groups]).T
    return middle, quartiles[1], quartiles[[0, 2]]


def _draw_picture(sparse: dict[str, _Outcome]) -> str:
    """Plot gain over similarity; returns a note that says where, or why not."""
    try:
        from matplotlib.figure import Figure
    except ImportError:
        return 'No picture of gain over similarity: it needs `matplotlib` (`pip install "metaopt[plots]"`).'
    figure = Figure(figsize=(7.0, 4.2), layout="constrained")
    axis = figure.subplots()
    for (name, found), color in zip(sparse.items(), ("#0072B2", "#D55E00", "#009E73", "#CC79A7"), strict=False):
        similarity, gain, (low, high) = _curve(found)
        # Where it matters, similarities are near 1.
        distance = np.maximum(1.0 - similarity, 1e-6)
        axis.fill_between(distance, low, high, color=color, alpha=0.15, linewidth=0)
        axis.plot(distance, gain, "o-", color=color, markersize=3.5, label=name)
    axis.axhline(1.0, color="0.6", linewidth=1, zorder=0)
    axis.set_xscale("log")
    axis.invert_xaxis()
    axis.set_yscale("log")
    axis.set_xlabel("1 - similarity of the nearest problem in memory")
    axis.set_ylabel("cold steps / warm steps")
    axis.grid(True, which="major", color="0.9", linewidth=0.8)
    axis.set_axisbelow(True)
    axis.spines[["top", "right"]].set_visible(False)
    figure.legend(loc="outside upper left", frameon=False)
    _PICTURE.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(_PICTURE, dpi=160)
    return f"Gain over similarity, with memories of 1 problem to all known ones: `{_PICTURE}`."


def run(*, full: bool = False) -> Report:
    """Steps to the target from warm and from cold starts, with one solver that is tuned for cold starts."""
    del full
    rows, tuning, sparse, claimed = [], [], {}, {}
    # Differences of a millionth of a value are not seen in single precision.
    with jax.enable_x64(True):
        for family in _FAMILIES:
            key = jr.key(1000)
            solver, row = family.kind.best_solver(family.features(_TUNING, key=jr.fold_in(key, 1)), key=key)
            tuning.append({"family": family.name} | row)
            outcomes, sparse[family.name] = _measure(family, solver)
            rows += _rows(family.name, outcomes)
            claimed[family.name] = outcomes[_CLAIMED]
    medians = {name: float(np.median(found.ratios[:, -1])) for name, found in claimed.items()}
    listed = "; ".join(f"{name} {median:.3g}" for name, median in medians.items())
    every = np.concatenate([found.ratios[:, -1] for found in claimed.values()])
    extra = np.concatenate([found.extra[:, -1] for found in claimed.values()])
    work = f"until {_TARGET:g} of the gap is left, at most {_BUDGET} steps"
    known = f", with {min(f.known for f in _FAMILIES)} to {max(f.known for f in _FAMILIES)} solved problems or more"
    terms: dict[str, Any] = {
        "budget": Budget(work=work + known),
        "rival": Rival("the same solver from a cold start", Budget(work=work)),
        "unequal": "ours has the solutions of problems before; the solver is tuned for cold starts",
        "left_out": "the previous solution as a start, as users take it; the cost of the problems solved before; noise",
    }
    claims = [
        Claim(
            "median_steps_ratio",
            float(np.median(every)),
            f"{_CLAIMED}, {every.size} problems, until {_TARGET:g} of the gap at the cold start is left; {listed}",
            **terms,
        ),
        Claim("lowest_family_median", min(medians.values()), "the same, of the family with the lowest", **terms),
        Claim(
            "worst_extra_evaluations",
            float(np.max(extra)),
            f"lower is better; the guard's look at the other start included; median {np.median(extra):.3g}",
            **terms,
        ),
    ]
    few = {name: int(np.max(found.extra[:, -1])) for name, found in sparse.items()}
    notes = [
        report(tuning, title="Median steps of cold starts, each solver with the best of at least 12 rates"),
        "Both starts have the same solver, the best of these for cold starts. Problems come one after the other; each "
        "solution is remembered as the solver left it at the target.",
        f"Worst extra evaluations with memories of as few as one problem, and no threshold: {cell(few)}.",
        _draw_picture(sparse),
    ]
    return Report(list(range(_SEEDS)), rows, claims, notes)
