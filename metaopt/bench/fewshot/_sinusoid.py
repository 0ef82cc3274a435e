"""Few-shot regression of sine waves: what a meta-step of MAML costs beside PyTorch, and what is learned."""

import dataclasses
import statistics
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import jax.tree_util as jtu
import numpy as np
from jaxtyping import Array, Float, Key, PRNGKeyArray

from ..._core import AbstractAlgorithm, ClipByGlobalNorm, Learner
from ...evaluate import BASELINES
from ...fewshot import (
    FOMAML,
    MAML,
    AbstractMethod,
    Calibration,
    GaussianStart,
    MetaSGD,
    Mixing,
    ProbabilisticMAML,
    Reptile,
    adapt,
    calibration,
    meta_learn,
)
from ...meta import MetaResult, MetaState, meta_step, meta_train
from ...schedules import Cosine
from ...tasks import Sinusoids
from .. import _peers
from .._timing import on_one_core, timed
from ..base import Budget, Claim, Report, Rival


_SHOTS, _QUERIES, _STEPS, _TASKS = 10, 10, 5, 25
_META_STEPS, _CHUNK = 15_000, 100
_HELD_OUT = 600
# One person's notebook, no paper: Simon Sondén's project `Zigolox/Meta-Learning-OptML-Project` on GitHub, `Estimating
# Sin.ipynb`: means over 100 waves and 100 support sets of each, after so many meta-steps on four tasks of five points.
_NOTEBOOK_STEPS = 60_000
_PUBLISHED = {"MAML": 0.72, "Meta-SGD": 0.46, "FOMAML": 0.81, "Reptile": 1.3}
_FIVE_SHOT_TASKS, _FIVE_SHOT_HELD_OUT = 4, 10_000


_descent, _adam = BASELINES["sgd"], BASELINES["adam"]


def _outer(rate: float) -> AbstractAlgorithm[Any, Any, Any]:
    return ClipByGlobalNorm(Cosine(_adam(rate), warmup_fraction=0.02), 10.0)


def compile_meta_steps(count: int) -> tuple[Callable[[MetaState, PRNGKeyArray], MetaState], MetaState]:
    """A program of `count` second-order meta-steps, and a state to start it from."""
    method = MAML(_descent(0.01), steps=_STEPS, tasks=_TASKS)
    setup = method.setup(Sinusoids(_SHOTS, _QUERIES), key=jr.key(0))
    outer = _adam(1e-3)
    zero = jnp.zeros((), jnp.int32)
    state = MetaState(zero, setup.learner, outer.init(setup.learner), None, zero)
    dynamic, static = eqx.partition(state, eqx.is_array)

    @jax.jit
    def run(dynamic: MetaState, key: PRNGKeyArray) -> MetaState:
        def body(_: int | Array, dynamic: MetaState) -> MetaState:
            new, _ = meta_step(eqx.combine(dynamic, static), setup.estimator, outer, setup.problem, key=key)
            return eqx.filter(new, eqx.is_array)

        return jax.lax.fori_loop(0, count, body, dynamic)

    return run.lower(dynamic, jr.key(0)).compile(), dynamic


def cost() -> tuple[float, float]:
    """The processor's and the clock's milliseconds per meta-step."""
    program, state = compile_meta_steps(_CHUNK)
    cpu, wall = timed(lambda state, block: program(state, jr.key(block)), state, _CHUNK)
    return 1e3 * cpu, 1e3 * wall


def _costs(rounds: int) -> tuple[list[dict[str, Any]], list[Claim], list[str]]:
    """Measure ourselves and PyTorch in turns."""
    ours, peers, notes = [on_one_core(__name__, "cost")], [], []
    for _ in range(rounds):
        try:
            peers.append(_peers.run(_peers.interpreter("torchopt"), "torch_maml.py", timeout=600))
        except (_peers.PeerUnavailable, _peers.PeerFailed) as error:
            notes.append(f"PyTorch was not measured: {error}")
            break
        ours.append(on_one_core(__name__, "cost"))
    cpu, wall = (statistics.median(times[i] for times in ours) for i in range(2))
    rows = [{"library": "metaopt", "CPU-ms per meta-step": cpu, "ms per meta-step": wall, "rounds": len(ours)}]
    claims = []
    names = {"torchopt": "TorchOpt", "torch_func": "torch.func"} if peers else {}
    for key, name in names.items():
        other = statistics.median(peer[key]["cpu_ms"] for peer in peers)
        version = peers[0]["torchopt_version" if key == "torchopt" else "torch_version"]
        rows.append(
            {
                "library": f"{name} {version}",
                "CPU-ms per meta-step": other,
                "ms per meta-step": statistics.median(peer[key]["wall_ms"] for peer in peers),
                "rounds": len(peers),
            }
        )
        note = f"{other:.3g} against {cpu:.3g} CPU-ms, alternating"
        work = Budget(work=f"a second-order meta-step: {_TASKS} tasks, {_STEPS} inner steps")
        rival, left = Rival(name, work, version), "compiling, which PyTorch does not do; GPUs; larger networks"
        claims.append(Claim(f"cpu_vs_{key}", other / cpu, note, budget=work, rival=rival, left_out=left))
    return rows, claims, notes


@eqx.filter_jit
def _errors(
    learner: Learner, family: Sinusoids, keys: Key[Array, " tasks"], steps: tuple[int, ...]
) -> Float[Array, "tasks counts"]:
    """The squared error on query points after each number of steps, on fixed tasks."""

    def one(key: PRNGKeyArray) -> Float[Array, " counts"]:
        task_key, run_key, end_key = jr.split(key, 3)
        task = family.sample(key=task_key)
        ended = [adapt(learner, task, steps=count, key=run_key).params for count in steps]
        return jnp.stack([task.measure(params, key=end_key) for params in ended])

    return jax.vmap(one)(keys)


def train(method: AbstractMethod, family: Sinusoids, *, rate: float, steps: int, seed: int) -> MetaResult:
    """Train a method, with a rate that falls to zero."""
    return meta_learn(method, family, outer=_outer(rate), steps=steps, key=jr.key(seed), progress=False)


def _ten_shot(seeds: int) -> tuple[list[dict[str, Any]], list[Claim]]:
    counts = (1, _STEPS, 10)
    keys = jr.split(jr.key(1000), _HELD_OUT)
    rows = []
    for seed in range(seeds):
        method = MAML(_descent(0.01), steps=_STEPS, tasks=_TASKS)
        result = train(method, Sinusoids(_SHOTS, _QUERIES), rate=5e-3, steps=_META_STEPS, seed=seed)
        errors = np.asarray(_errors(result.learner, Sinusoids(_SHOTS, 100), keys, counts)).mean(0)
        found = {f"MSE, {count} steps": float(e) for count, e in zip(counts, errors, strict=True)}
        rows.append({"seed": seed, **found, "train s": result.seconds, "compile s": result.compile_seconds})
    claims = []
    for count in (_STEPS, 10):
        found = [row[f"MSE, {count} steps"] for row in rows]
        spread = f"lower is better; {_HELD_OUT} tasks, {seeds} seed(s): {min(found):.3g} to {max(found):.3g}"
        budget = Budget(gradients=count, before=_META_STEPS * _TASKS * _STEPS)
        claims.append(Claim(f"mse_{count}_steps", statistics.median(found), spread, budget=budget, rival=None))
    seconds = [row["train s"] for row in rows]
    note = f"{_META_STEPS} meta-steps, compiling included; {min(seconds):.3g} to {max(seconds):.3g}"
    compiling = statistics.median(row["compile s"] for row in rows)
    options: dict[str, Any] = {"rival": None, "compile_seconds": compiling, "compile_counted": True}
    claims.append(Claim("train_seconds", statistics.median(seconds), note, **options))
    return rows, claims


def _five_shot(steps: int) -> tuple[list[dict[str, Any]], list[Claim]]:
    """One step from five points, as in that notebook; Reptile, with no derivative to train one step with, takes 32."""
    methods: dict[str, tuple[AbstractMethod, float, int]] = {
        "MAML": (MAML(_descent(0.02), steps=1, tasks=_FIVE_SHOT_TASKS), 5e-3, 1),
        "Meta-SGD": (MetaSGD(0.02, steps=1, tasks=_FIVE_SHOT_TASKS), 5e-3, 1),
        "FOMAML": (FOMAML(_descent(0.02), steps=1, tasks=_FIVE_SHOT_TASKS), 5e-3, 1),
        "Reptile": (Reptile(steps=32, tasks=_FIVE_SHOT_TASKS), 5e-3, 32),
    }
    keys = jr.split(jr.key(2000), _FIVE_SHOT_HELD_OUT)
    rows, claims = [], []
    for name, (method, rate, count) in methods.items():
        result = train(method, Sinusoids(5, _QUERIES), rate=rate, steps=steps, seed=0)
        errors = np.asarray(_errors(result.learner, Sinusoids(5, 100), keys, (count,)))
        mean, error = float(errors.mean()), float(errors.std() / len(errors) ** 0.5)
        published = _PUBLISHED[name]
        rows.append(
            {
                "method": name,
                "5-shot MSE": mean,
                "95% +-": 1.96 * error,
                "a notebook's": published,
                "inner steps": count,
                "train s": result.seconds,
            }
        )
        note = f"theirs over ours: {published:g} / {mean:.3g}"
        claims.append(
            Claim(
                f"published_vs_{name.lower().replace('-', '_')}",
                published / mean,
                note,
                budget=Budget(gradients=count, before=steps * _FIVE_SHOT_TASKS),
                rival=Rival(
                    "a figure of one person's notebook (Simon Sondén), not run here",
                    Budget(gradients=count, before=_NOTEBOOK_STEPS * _FIVE_SHOT_TASKS),
                ),
                unequal="ours has other numbers of meta-steps, clipped meta-gradients and rates that fall",
                left_out="any published paper; the notebook's own waves and seeds",
            )
        )
    return rows, claims


def _uncertainty() -> tuple[list[dict[str, Any]], list[Claim]]:
    """How far to believe what is predicted from five points: with noise that is the same for all tasks, and with a
    distribution of starts, trained from around the same initialization."""
    family, held_out = Sinusoids(5, 20), Sinusoids(5, 100)
    one = train(MAML(_descent(0.01), steps=_STEPS, tasks=_TASKS), family, rate=5e-3, steps=8000, seed=0)
    method = ProbabilisticMAML(_descent(0.01), steps=_STEPS, tasks=8, members=6, scale=0.02)
    setup = method.setup(family, key=jr.key(1))

    def constant(noise: float) -> Learner:
        """One member, whose noise does not depend on how well it fits."""
        never = jnp.asarray(-jnp.inf)
        scales = jtu.tree_map(lambda x: jnp.full_like(x, -jnp.inf), setup.learner.initial.log_scale)
        mixing = Mixing(jnp.log(jnp.asarray(noise)), never, jnp.zeros(()))
        return Learner(setup.learner.algorithm, GaussianStart(one.learner.initial, scales, mixing, 1))

    def judged(learner: Learner, seed: int) -> Calibration:
        return calibration(learner, held_out, steps=_STEPS, tasks=_HELD_OUT, key=jr.key(seed))

    begun = eqx.tree_at(lambda learner: learner.initial.mean, setup.learner, one.learner.initial)
    options: dict[str, Any] = {"outer": _outer(1e-3), "steps": 4000, "key": jr.key(2), "progress": False}
    learned = meta_train(begun, setup.problem, estimator=setup.estimator, **options).learner
    more = Learner(learned.algorithm, dataclasses.replace(learned.initial, members=20))
    noise = min(np.geomspace(0.1, 3.0, 12).tolist(), key=lambda noise: judged(constant(noise), 3000).log_score)
    found = {
        f"MAML, noise {noise:.2g}": judged(constant(noise), 3001),
        "ProbabilisticMAML, 6 members": judged(learned, 3001),
        "ProbabilisticMAML, 20 members": judged(more, 3001),
    }
    rows = [
        {"method": name, "log score": each.log_score, "calibration error": each.error, "spread": each.spread}
        for name, each in found.items()
    ]
    fixed, _, best = found.values()
    gain = fixed.log_score - best.log_score
    note = f"{fixed.log_score:.3g} of MAML with the best of 12 noises, {best.log_score:.3g} of a distribution, in nats"
    rival = Rival("MAML with the best of 12 constant noises", Budget(gradients=_STEPS, before=8000 * _TASKS * _STEPS))
    more_steps = 8000 * _TASKS * _STEPS + 4000 * 8 * 6 * _STEPS
    terms: dict[str, Any] = {
        "budget": Budget(gradients=20 * _STEPS, before=more_steps),
        "rival": rival,
        "unequal": "ours begins where the rival ends, is trained for 4000 meta-steps more, and has 20 members",
        "left_out": "ensembles of MAML; noise that depends on the task",
    }
    return rows, [
        Claim("log_score_gain", gain, note, **terms),
        Claim("calibration_error", best.error, f"lower is better; MAML with that noise {fixed.error:.3g}", **terms),
    ]


def run(*, full: bool = False) -> Report:
    """Run the benchmark; `full` trains five seeds, and as long as the notebook with five points."""
    costs, cost_claims, notes = _costs(5 if full else 3)
    seeds = 5 if full else 1
    ten, ten_claims = _ten_shot(seeds)
    five_steps = 60_000 if full else 30_000
    five, five_claims = _five_shot(five_steps)
    unsure, unsure_claims = _uncertainty()
    notes += [
        f"Network 1-40-40-1, {_STEPS} inner steps of rate 0.01, {_SHOTS} points, {_TASKS} tasks, second order. PyTorch "
        "has one thread, metaopt one core. Trained with Adam at 0.005, falling to zero, and a norm of at most 10.",
        f"5-shot: one inner step (Reptile 32), {_FIVE_SHOT_TASKS} tasks a meta-step, {five_steps} meta-steps "
        f"(the notebook: {_NOTEBOOK_STEPS}), {_FIVE_SHOT_HELD_OUT} held-out tasks. The figures beside them are of "
        "one person's notebook, Simon Sondén's, GitHub: Zigolox/Meta-Learning-OptML-Project.",
        "Uncertainty: five points, five steps; the noise of MAML is chosen on other tasks than those that are counted.",
    ]
    rows = costs + ten + five + unsure
    return Report(list(range(seeds)), rows, cost_claims + ten_claims + five_claims + unsure_claims, notes)
