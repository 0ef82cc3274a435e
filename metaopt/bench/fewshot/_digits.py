"""Few-shot classification of unseen classes: learned initializations against tuned baselines."""

import dataclasses
import functools as ft
import time
from collections.abc import Callable, Sequence
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import jax.tree_util as jtu
import numpy as np
import optax
from jaxtyping import Array, Float, Int, PyTree

from ..._core import Learner, unroll
from ...evaluate import BASELINES
from ...fewshot import (
    ANIL,
    FOMAML,
    IMAML,
    MAML,
    AbstractMethod,
    MetaSGD,
    OnlyParts,
    PerParameterSGD,
    ProtoMAML,
    PrototypeStart,
    Reptile,
    TrajectoryMeta,
)
from ...meta import meta_train
from ...tasks import AbstractClasses, FewShot, FewShotTask, Glyphs, labelled_classes
from ...tasks._common import cross_entropy
from ...tasks.data._classes import ClassSplit
from ..base import Budget, Claim, Report, Rival
from ..l2o._rules import clipped_adam


_sgd = BASELINES["sgd"]
_WAYS, _QUERIES, _EPISODES, _BATCH = 5, 15, 600, 50
_SHOTS = (5, 1)
_RATES = np.logspace(-2.5, 1.0, 12)
_STEPS = (5, 20)


@dataclasses.dataclass(frozen=True)
class _Problem:
    """Data, a network for it, and how long to train: steps, of so many examples, or tasks with so many queries."""

    classes: Callable[[ClassSplit], AbstractClasses]
    network: dict[str, Any]
    pretrain: int
    meta_steps: int
    batch: int = 64
    tasks: int = 4
    queries: int = 5

    def family(self, split: ClassSplit, shots: int, queries: int = _QUERIES) -> FewShot:
        return FewShot(self.classes(split), _WAYS, shots, queries, **self.network)

    def episodes(self, split: ClassSplit, shots: int, count: int, seed: int) -> FewShotTask:
        family = self.family(split, shots)
        return jax.jit(jax.vmap(lambda key: family.sample(key=key)))(jr.split(jr.key(seed), count))


def _problems(full: bool) -> dict[str, _Problem]:
    factor = 4 if full else 1
    # An unsteady hand: with the default one, baselines are right 93 times out of 100.
    hard = ft.partial(Glyphs, jitter=0.2, deformation=0.3)
    glyphs = (
        _Problem(hard, {"hidden": (64, 128, 128)}, 20_000, 22_000, batch=256, tasks=16, queries=_QUERIES)
        if full
        else _Problem(hard, {"hidden": (16, 32, 32)}, 2000, 500)
    )
    dense = {"architecture": "dense", "hidden": (64, 64)}
    return {
        "glyphs": glyphs,
        "digits": _Problem(ft.partial(labelled_classes, "digits"), {"hidden": (16, 32)}, 300 * factor, 150 * factor),
        "mnist_1d": _Problem(ft.partial(labelled_classes, "mnist_1d"), dense, 1000 * factor, 150 * factor),
    }


def _pretrain(problem: _Problem) -> PyTree:
    """Learn to tell all training classes apart; the head for five others is zero."""
    family = problem.family("train", 1)
    classes, network = family.classes, family.network(family.classes.count)
    optimizer = optax.adam(optax.cosine_decay_schedule(3e-3, problem.pretrain))

    def loss(params: PyTree, labels: Int[Array, " n"], key: Array) -> Float[Array, ""]:
        return cross_entropy(network.apply(params, classes.draw(labels, 1, key=key)[:, 0]), labels)

    def step(carry: PyTree, key: Array) -> tuple[PyTree, None]:
        labels_key, draw_key = jr.split(key)
        params, state = carry
        labels = jr.randint(labels_key, (problem.batch,), 0, classes.count, jnp.int32)
        updates, state = optimizer.update(jax.grad(loss)(params, labels, draw_key), state, params)
        return (optax.apply_updates(params, updates), state), None

    @jax.jit
    def train(key: Array) -> PyTree:
        start_key, run_key = jr.split(key)
        params = network.init(key=start_key)
        carry = params, optimizer.init(params)
        return jax.lax.scan(step, carry, jr.split(run_key, problem.pretrain))[0][0]

    *body, _ = train(jr.key(0))
    head = family.network(_WAYS).init(key=jr.key(0))[-1]
    return (*body, jtu.tree_map(jnp.zeros_like, head))


def _centroid(support: Float[Array, "ways shots d"], query: Float[Array, "ways n d"]) -> Float[Array, ""]:
    """The share of queries that are nearest to the mean of their class."""
    means = jnp.mean(support, axis=1)
    away = jnp.sum(jnp.square(query[:, :, None] - means[None, None]), axis=-1)
    return jnp.mean(jnp.argmin(away, axis=-1) == jnp.arange(query.shape[0])[:, None])


def _unit(rows: Float[Array, "ways n d"]) -> Float[Array, "ways n d"]:
    return rows / (jnp.linalg.norm(rows, axis=-1, keepdims=True) + 1e-8)


@eqx.filter_jit
def _centroids(params: PyTree, tasks: FewShotTask, cosine: bool) -> Float[Array, " tasks"]:
    """Accuracies by nearest centroid, of pixels or, given a network's parameters, of its features."""

    def one(task: FewShotTask) -> Float[Array, ""]:
        parts = [task.support, task.query]
        if params is not None:
            flat = [task.network.features(params, part.reshape(-1, part.shape[-1])) for part in parts]
            parts = [new.reshape(*old.shape[:2], -1) for new, old in zip(flat, parts, strict=True)]
        return _centroid(*[_unit(part) for part in parts] if cosine else parts)

    return jax.lax.map(one, tasks, batch_size=_BATCH)


@eqx.filter_jit
def _adapted(learner: Learner, tasks: FewShotTask, steps: int) -> Float[Array, " tasks"]:
    """Accuracies after some steps on the support."""
    keys = jr.split(jr.key(0), tasks.support.shape[0])

    def one(pair: tuple[FewShotTask, Array]) -> Float[Array, ""]:
        task, key = pair
        return task.accuracy(unroll(learner, task, steps=steps, key=key).params)

    return jax.lax.map(one, (tasks, keys), batch_size=_BATCH)


@dataclasses.dataclass(frozen=True)
class _Entry:
    """A way to classify with its choices still open: each maps episodes to accuracies."""

    choices: dict[str, Callable[[FewShotTask], Float[Array, " tasks"]]]

    def run(self, validation: FewShotTask, test: FewShotTask) -> tuple[str, float, np.ndarray]:
        """The best choice on validation classes, its accuracy there, and accuracies on unseen classes."""
        scores = {name: float(jnp.mean(run(validation))) for name, run in self.choices.items()}
        best = max(scores, key=lambda name: scores[name])
        return best, scores[best], np.asarray(self.choices[best](test), np.float64)


def _steps_of(make: Callable[[float], Learner], rates: Sequence[float] | np.ndarray, steps: Sequence[int]) -> _Entry:
    return _Entry(
        {
            f"rate {rate:.2g}, {count} steps": ft.partial(_adapted, make(float(rate)), steps=count)
            for rate in rates
            for count in steps
        }
    )


def _baselines(pretrained: PyTree, head: str) -> dict[str, _Entry]:
    def centroids(params: PyTree) -> _Entry:
        return _Entry({name: ft.partial(_centroids, params, cosine=name == "cosine") for name in ("mean", "cosine")})

    return {
        "centroid, pixels": centroids(None),
        "centroid, features": centroids(pretrained),
        "from scratch": _steps_of(lambda rate: Learner(_sgd(rate)), _RATES, _STEPS),
        "fine-tuned head": _steps_of(lambda rate: Learner(OnlyParts(_sgd(rate), head), pretrained), _RATES, _STEPS),
        "fine-tuned": _steps_of(lambda rate: Learner(_sgd(rate), pretrained), _RATES, _STEPS),
    }


@dataclasses.dataclass(frozen=True)
class _Recipe:
    """A method, how many inner steps it is trained with, and the rate of the outer Adam."""

    method: AbstractMethod
    steps: int
    rate: float = 1e-3


def _recipes(head: str, tasks: int) -> dict[str, _Recipe]:
    return {
        "MAML": _Recipe(MAML(_sgd(0.03), 5, tasks), 5),
        "FOMAML": _Recipe(FOMAML(_sgd(0.03), 5, tasks), 5),
        "ANIL": _Recipe(ANIL(head, _sgd(0.1), 5, tasks), 5),
        "Meta-SGD": _Recipe(MetaSGD(0.03, 5, tasks), 5),
        "ProtoMAML": _Recipe(ProtoMAML(0.01, 1, tasks), 1, 1.5e-3),
        "iMAML": _Recipe(IMAML(_sgd(0.1), 0.5, 8, tasks, max_steps=3), 8),
        "Reptile": _Recipe(Reptile(_sgd(0.1), 5, tasks), 5),
        "TrajectoryMeta": _Recipe(TrajectoryMeta(PerParameterSGD(0.03), 5, tasks=tasks), 5),
    }


def _meta_train(recipe: _Recipe, problem: _Problem, shots: int, start: PyTree) -> Learner:
    setup = recipe.method.setup(problem.family("train", shots, problem.queries), key=jr.key(0))
    initial = setup.learner.initial
    begin = dataclasses.replace(initial, network=start) if isinstance(initial, PrototypeStart) else start
    learner = Learner(setup.learner.algorithm, begin)
    outer = clipped_adam(recipe.rate)
    options: dict[str, Any] = {"estimator": setup.estimator, "outer": outer, "steps": problem.meta_steps}
    return meta_train(learner, setup.problem, key=jr.key(1), progress=False, **options).learner


def _learned(learner: Learner, trained: int) -> _Entry:
    choices = (trained, 2 * trained, 4 * trained)
    return _Entry({f"{steps} steps": ft.partial(_adapted, learner, steps=steps) for steps in choices})


def _interval(values: np.ndarray) -> float:
    return float(1.96 * np.std(values, ddof=1) / np.sqrt(values.size))


def run(*, full: bool = False) -> Report:
    """Run the benchmark; `full` trains for one shot separately and longer, on glyphs as long as a GPU is worth."""
    rows: list[dict[str, Any]] = []
    claims: list[Claim] = []
    times: list[str] = []
    for name, problem in _problems(full).items():
        begun = time.perf_counter()
        start = _pretrain(problem)
        jax.block_until_ready(start)
        pretraining = time.perf_counter() - begun
        head = f"{len(start) - 1}/*"
        trained: dict[str, Learner] = {}
        seconds: dict[str, float] = {}
        for shots in _SHOTS:
            validation = problem.episodes("validation", shots, 50, 1)
            test = problem.episodes("held_out", shots, _EPISODES, 2)
            found = {label: entry.run(validation, test) for label, entry in _baselines(start, head).items()}
            recipes = _recipes(head, problem.tasks)
            learned = {label: recipe.steps for label, recipe in recipes.items()}
            for label, recipe in recipes.items():
                if full or label not in trained:
                    before = time.perf_counter()
                    trained[label] = _meta_train(recipe, problem, shots, start)
                    seconds[label] = time.perf_counter() - before
                found[label] = _learned(trained[label], recipe.steps).run(validation, test)
            for label, (choice, _, accuracies) in found.items():
                row: dict[str, Any] = {"data": name, "shots": shots, "method": label, "learned": label in trained}
                row |= {"accuracy": round(100 * float(np.mean(accuracies)), 1)}
                row |= {"±": round(100 * _interval(accuracies), 1), "chosen": choice}
                rows.append(row | {"train s": round(seconds.get(label, 0.0))})
            claims.append(_claim(name, shots, found, learned, problem))
            # Programs of all problems together take more memory maps than Linux gives a process.
            jax.clear_caches()
        times.append(f"{name}: {pretraining:.0f} s of pretraining, {sum(seconds.values()):.0f} s of meta-training")
    notes = [
        f"{_WAYS}-way accuracy in percent on {_EPISODES} episodes of unseen classes, {_QUERIES} queries per class, "
        "with 95% intervals. What is chosen was best on validation classes: baselines that adapt have "
        f"{_RATES.size} rates with {' and '.join(map(str, _STEPS))} steps each, learned ones three numbers of steps.",
        "All have the same network with batch normalization over the current batch, and all methods start from the "
        "pretrained weights that baselines are tuned from.",
        "Digits and MNIST-1D have five training classes and five unseen ones; their validation episodes are of other "
        "examples of the training classes.",
        "; ".join(times) + ".",
    ]
    return Report([0], rows, claims, notes)


def _claim(
    name: str, shots: int, found: dict[str, tuple[str, float, np.ndarray]], learned: dict[str, int], problem: _Problem
) -> Claim:
    """How many points the best method, by validation, is above the best baseline, by test."""
    method = max(learned, key=lambda label: found[label][1])
    baseline = max(set(found) - set(learned), key=lambda label: float(np.mean(found[label][2])))
    points = 100 * (found[method][2] - found[baseline][2])
    mean, interval = float(np.mean(points)), _interval(points)
    suffix = "" if (name, shots) == ("glyphs", 5) else f"_{name}_{shots}_shot"
    shown = (100 * float(np.mean(found[label][2])) for label in (method, baseline))
    ours, theirs = (f"{label} {percent:.1f}%" for label, percent in zip((method, baseline), shown, strict=True))
    note = f"{mean:.1f} ± {interval:.1f} (95%, paired, {points.size} episodes); {ours} against {theirs}"
    pretraining = f"pretraining of {problem.pretrain:,} steps of {problem.batch}"
    return Claim(
        f"points_over_best_baseline{suffix}",
        mean,
        note,
        budget=Budget(
            work=pretraining, gradients=4 * learned[method], before=problem.meta_steps * problem.tasks * learned[method]
        ),
        rival=Rival(
            f"{baseline}, the best of five baselines by the test",
            Budget(work=pretraining, gradients=0 if "centroid" in baseline else max(_STEPS)),
        ),
        unequal="ours is meta-trained after the same pretraining; what adapts takes the best of some numbers of steps",
        left_out="pretraining for as long as pretraining and meta-training together; larger networks",
    )
