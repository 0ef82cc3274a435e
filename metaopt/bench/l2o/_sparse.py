"""Unfolded shrinkage-thresholding on sparse coding, against the algorithms it was unfolded from."""

import dataclasses
import hashlib
import time
from collections.abc import Callable, Iterable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import jax.tree_util as jtu
import numpy as np
import optax
from jaxtyping import Array, Float, PyTree

from ..._core import AbstractAlgorithm, CheckpointError, from_optax, load, save
from ..._core.files._cache import cache_folder
from ...l2o import ALISTA, FISTA, ISTA, LISTA, LISTACP, AbstractUnfolded
from ...meta import train_unfolded
from ...schedules import Cosine
from ...tasks import SparseCoding, SparseCodingTask
from ..base import Budget, Claim, Report, Rival


_DEPTH = 16
_SIGNALS_PER_STEP = 64
_SUPPORT = (0.012, 0.13)
_SETS, _SIGNALS = 5, 1000
# Counting thousands of steps is done on the first signals of each set.
_COUNTED = 20
_CAP, _CHUNK = 20_000, 500
_WEIGHTS = np.geomspace(0.3, 3e-5, 25)


@dataclasses.dataclass(frozen=True)
class _Recipe:
    """How one rule is made and trained. Numbers and matrices are trained at rates of their own."""

    make: Callable[[np.ndarray], AbstractUnfolded]
    number_rate: float
    matrix_rate: float
    steps: int

    @property
    def before(self) -> int:
        """Steps on signals in training: as many of each length as there are layers."""
        return self.steps * _SIGNALS_PER_STEP * sum(range(1, _DEPTH + 1))

    def train(self, family: SparseCoding, seed: int) -> AbstractUnfolded:
        transformation = optax.multi_transform(
            {"number": optax.adam(self.number_rate), "matrix": optax.adam(self.matrix_rate)}, _labels
        )
        outer = Cosine(from_optax(transformation), final_fraction=0.03, warmup_fraction=0.1)
        rule = self.make(family.dictionary)
        return train_unfolded(rule, family, outer=outer, steps=self.steps, tasks=_SIGNALS_PER_STEP, key=jr.key(seed))


RECIPES = {
    "LISTA": _Recipe(lambda a: LISTA(a, _DEPTH, 0.4, tied=True), 0.03, 2e-4, 100),
    "LISTA-CP": _Recipe(lambda a: LISTACP(a, _DEPTH, 0.4, 1.0, tied=True, analytic=True), 0.03, 1e-5, 100),
    "LISTA-CPSS": _Recipe(lambda a: LISTACP(a, _DEPTH, 0.4, 1.0, _SUPPORT, True, True), 0.03, 1e-5, 100),
    "ALISTA": _Recipe(lambda a: ALISTA(a, _DEPTH, 0.4, 1.0, _SUPPORT), 0.03, 0.0, 150),
}


def _labels(tree: PyTree) -> PyTree[str]:
    # One number per layer is a vector.
    return jtu.tree_map(lambda x: "matrix" if x.ndim > 1 else "number", tree)


def trained_rule(name: str, family: SparseCoding, seed: int) -> tuple[AbstractUnfolded, float]:
    """A trained rule, of the cache if it is there, and how many seconds its training took, then or now."""
    recipe = RECIPES[name]
    rule = recipe.make(family.dictionary)
    numbers = (recipe.number_rate, recipe.matrix_rate, recipe.steps)
    digest = hashlib.sha256(f"{eqx.tree_pformat(rule)} {numbers} {family} {seed}".encode())
    for leaf in jtu.tree_leaves(rule):
        digest.update(np.asarray(leaf).tobytes())
    file = cache_folder("l2o-sparse") / f"{name.lower()}-{digest.hexdigest()[:12]}.metaopt"
    try:
        return load(file, (rule, 0.0))
    except CheckpointError:
        begun = time.perf_counter()
        rule = recipe.train(family, seed)
        found = rule, time.perf_counter() - begun
        save(file, found)
        return found


def _draw(family: SparseCoding, signals: int) -> SparseCodingTask:
    """Sets of held-out tasks, by set and number."""

    def draw(key: Array) -> SparseCodingTask:
        return family.sample(key=key)

    keys = [jr.split(jr.key(1000 + number), _SIGNALS)[:signals] for number in range(_SETS)]
    return jax.jit(jax.vmap(jax.vmap(draw)))(jnp.stack(keys))


def _decibels(tasks: SparseCodingTask, params: Float[Array, "sets signals n"]) -> Float[Array, " sets"]:
    """The error of each set: the sum over its signals, relative to that of zero, as in the papers."""
    error, size = (jnp.sum(jnp.square(x), axis=(1, 2)) for x in (params - tasks.code, tasks.code))
    return 10 * jnp.log10(error / size)


@eqx.filter_jit
def _start(rule: AbstractAlgorithm[Any, Any, Any], tasks: SparseCodingTask) -> tuple[PyTree, Array]:
    params = jnp.zeros_like(tasks.code)
    return jax.vmap(jax.vmap(rule.init))(params), params


@eqx.filter_jit
def _advance(
    rule: AbstractAlgorithm[Any, Any, Any], tasks: SparseCodingTask, carry: tuple[PyTree, Array], steps: int
) -> tuple[tuple[PyTree, Array], Float[Array, "steps sets"]]:
    def one(task: SparseCodingTask, state: PyTree, params: Array) -> tuple[PyTree, Array]:
        value, residual = task.evaluate(params, key=jr.key(0))
        return rule.step(state, params, residual, value=value)

    def body(carry: tuple[PyTree, Array], _: None) -> tuple[tuple[PyTree, Array], Array]:
        carry = jax.vmap(jax.vmap(one))(tasks, *carry)
        return carry, _decibels(tasks, carry[1])

    return jax.lax.scan(body, carry, None, length=steps)


def _curve(rule: AbstractAlgorithm[Any, Any, Any], tasks: SparseCodingTask, steps: int) -> np.ndarray:
    """The error of each set after each step."""
    return np.asarray(_advance(rule, tasks, _start(rule, tasks), steps)[1])


def _first(curve: np.ndarray, targets: np.ndarray, offset: int, found: np.ndarray) -> None:
    """Write the numbers of the first steps at which targets `[targets, sets]` are met, where none is known."""
    met = curve[:, None] <= targets[None]
    new = np.where(met.any(0), offset + 1 + met.argmax(0), np.inf)
    np.minimum(found, new, out=found)


def _steps_to(
    make: Callable[[float], AbstractAlgorithm[Any, Any, Any]], tasks: SparseCodingTask, targets: np.ndarray
) -> np.ndarray:
    """How many steps the best of a grid of weights needs to the targets `[targets, sets]`; infinite past the cap."""
    best, end = np.full(targets.shape, np.inf), np.inf
    for weight in _WEIGHTS:
        rule, found, before, done = make(float(weight)), np.full(targets.shape, np.inf), np.inf, 0
        carry = _start(rule, tasks)
        # A run ends when it stands still, or can no longer be the best for any target.
        while done < _CAP and np.any(np.isinf(found) & (done < best)):
            carry, curve = _advance(rule, tasks, carry, _CHUNK)
            curve = np.asarray(curve)
            _first(curve, targets, done, found)
            done += _CHUNK
            # FISTA may go up before it goes down.
            if abs(before - curve[-1].max()) < 0.01:
                break
            before = curve[-1].max()
        best = np.minimum(best, found)
        # Small weights are slow. Where one ends higher than the one before, at the cap, the next ones do so, too.
        if done >= _CAP and before > end:
            break
        end = before
    return best


def _named(curve: np.ndarray) -> dict[str, float]:
    """The median over sets after each layer, as the columns of a table."""
    return {f"{k + 1}": round(float(x), 1) for k, x in enumerate(np.median(curve, axis=1))}


def _tuned(make: Callable[[float], Any], family: SparseCoding) -> Any:
    """The rule of least error after as many steps as there are layers, on signals for nothing else."""
    keys = jr.split(jr.key(2000), _SIGNALS)[None]
    tasks = jax.jit(jax.vmap(jax.vmap(lambda key: family.sample(key=key))))(keys)
    return min((make(float(w)) for w in _WEIGHTS), key=lambda rule: _curve(rule, tasks, _DEPTH)[-1, 0])


def _noise(snr: float | None) -> str:
    return "none" if snr is None else f"{snr:g} dB"


def _peers(family: SparseCoding) -> dict[str, Callable[[float], AbstractAlgorithm[Any, Any, Any]]]:
    matrix = family.dictionary
    ista, fista = ISTA(matrix), FISTA(matrix)

    def weighted(rule: Any) -> Callable[[float], Any]:
        return lambda weight: eqx.tree_at(lambda r: r.log_weight, rule, jnp.log(jnp.asarray(weight)))

    return {"ISTA": weighted(ista), "FISTA": weighted(fista)}


def _compare(snr: float | None, names: Iterable[str], seeds: int) -> tuple[list[dict[str, Any]], dict[str, np.ndarray]]:
    """The rows of one noise level, and the errors of each rule after all layers, by training seed and set."""
    family = SparseCoding(snr_db=snr, signal="residual")
    tasks = _draw(family, _SIGNALS)
    rows, last = [], {}
    for name, make in _peers(family).items():
        rule = _tuned(make, family)
        row = {"rule": name, "noise": _noise(snr), "learned": 0, "train s": "-"}
        rows.append(row | _named(_curve(rule, tasks, _DEPTH)))
    for name in names:
        found = [trained_rule(name, family, seed) for seed in range(seeds)]
        curves = [_curve(rule, tasks, _DEPTH) for rule, _ in found]
        seconds = float(np.median([took for _, took in found]))
        last[name] = np.stack([curve[-1] for curve in curves])
        count = sum(x.size for x in jtu.tree_leaves((found[0][0].layers, found[0][0].shared)))
        row = {"rule": name, "noise": _noise(snr), "learned": count, "train s": round(seconds)}
        rows.append(row | _named(np.concatenate(curves, axis=1)))
    return rows, last


def run(*, full: bool = False) -> Report:
    """Run the benchmark; `full` takes more noise levels and training seeds."""
    levels: list[float | None] = [None, 40.0, 30.0, 20.0] if full else [None, 30.0]
    seeds = 3 if full else 1
    rows, last = [], {}
    for snr in levels:
        names = RECIPES if full or snr is None else ("ALISTA",)
        found, errors = _compare(snr, names, seeds)
        rows += found
        last = last or errors
    family = SparseCoding(signal="residual")
    counted = _draw(family, _COUNTED)
    rules = [trained_rule(name, family, 0)[0] for name in RECIPES]
    targets = np.stack([_curve(rule, counted, _DEPTH)[-1] for rule in rules])
    steps = {name: _steps_to(make, counted, targets) for name, make in _peers(family).items()}
    for index, name in enumerate(RECIPES):
        row = next(row for row in rows if row["rule"] == name)
        for peer, found in steps.items():
            median = np.median(found[index])
            row[f"{peer} steps"] = f"> {_CAP}" if np.isinf(median) else round(float(median))
    claims = _claims(last, steps)
    notes = [
        f"Errors: decibels after each of {_DEPTH} layers, medians over {_SETS} held-out sets of {_SIGNALS} signals and "
        f"over {seeds} training seed(s); ISTA and FISTA with the best of {_WEIGHTS.size} weights for {_DEPTH} steps.",
        f"ISTA and FISTA steps: to the error of the rule after {_DEPTH} layers, on {_COUNTED} signals of each set, "
        f"with the best weight for just that, rate 1/L, at most {_CAP} steps.",
        "Trained rules are kept in {0}. To train them again: `rm -r {0}`.".format(cache_folder("l2o-sparse")),
    ]
    return Report(list(range(seeds)), rows, claims, notes)


def _claims(last: dict[str, np.ndarray], steps: dict[str, np.ndarray]) -> list[Claim]:
    names = list(RECIPES)
    claims = []
    for peer, found in steps.items():
        # Past the cap the ratio is at least this.
        ratios = np.minimum(found, _CAP) / _DEPTH
        each = ", ".join(f"{name} {np.median(r):.3g}" for name, r in zip(names, ratios, strict=True))
        open_ended = [name for name, row in zip(names, found, strict=True) if np.isinf(row).any()]
        capped = f"; at the cap of {_CAP} steps, so a lower bound: {', '.join(open_ended)}" if open_ended else ""
        best = int(np.argmax(np.median(ratios, axis=1)))
        spread = f"{ratios[best].min():.3g} to {ratios[best].max():.3g} over {_SETS} held-out sets"
        note = f"{names[best]}, {spread}; {each}{capped}"
        rival = Rival(f"{peer} with the best of {_WEIGHTS.size} weights", Budget(gradients=_CAP))
        claims.append(
            Claim(
                f"steps_vs_{peer.lower()}",
                float(np.median(ratios[best])),
                note,
                budget=Budget(gradients=_DEPTH, before=RECIPES[names[best]].before),
                rival=rival,
                unequal="how many steps the rival needs is what is counted; its weight is the best on the same signals",
                left_out="weights that fall on the way, restarts, other dictionaries",
            )
        )
    best = min(names, key=lambda name: float(np.median(last[name])))
    each = ", ".join(f"{name} {np.median(errors):.3g}" for name, errors in last.items())
    spread = f"{last[best].min():.3g} to {last[best].max():.3g} over held-out sets and training seeds"
    note = f"{best}, lower is better, {spread}; {each}"
    budget = Budget(gradients=_DEPTH, before=RECIPES[best].before)
    claims.append(Claim("nmse_db", float(np.median(last[best])), note, budget=budget, rival=None))
    return claims
