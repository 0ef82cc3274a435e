"""Many families, a few at a time."""

import csv
import math
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import jax.tree_util as jtu
import numpy as np
import optax
import pytest

import metaopt
from metaopt.evaluate import CSVFile
from metaopt.meta import (
    PES,
    ConstantHorizon,
    MeanLoss,
    MetaProblem,
    MetaResult,
    Mixed,
    Rotation,
    TaskParallel,
    Unrolled,
    meta_train,
    rotation_turns,
)
from metaopt.meta.training._rotation import Timetable, run_keys
from metaopt.sharding import make_mesh
from metaopt.tasks import Mixture, Quadratics, SingleTask

from .problems import Parabola, Parabolas, descent, log_rate


# Two shapes of programs: four families of parabolas differ in numbers only, and one in its shape.
CURVATURES = (1.0, 2.0, 3.0, 4.0)
PARABOLAS = tuple(SingleTask(Parabola(jnp.asarray(c))) for c in CURVATURES)
MIXTURE = Mixture((*PARABOLAS, Quadratics(2, condition=4.0)), (1.0, 2.0, 3.0, 4.0, 2.0))
PROBLEM = MetaProblem(MIXTURE, MeanLoss(), ConstantHorizon(4), tasks=2)


def trained(
    steps: int,
    rotation: Rotation | None,
    *,
    problem: MetaProblem = PROBLEM,
    inner: Any = PES(0.1, 2),  # noqa: B008
    **options: Any,
) -> MetaResult:
    outer = metaopt.from_optax(optax.sgd, learning_rate=0.01)
    estimator = options.pop("estimator", Mixed(inner))
    return meta_train(
        descent(0.1),
        problem,
        estimator=estimator,
        outer=outer,
        steps=steps,
        key=jr.key(0),
        rotation=rotation,
        progress=False,
        **options,
    )


def test_the_timetable_depends_on_the_key_alone() -> None:
    rotation = Rotation(3, 2, 10)
    turns = rotation_turns(rotation, MIXTURE, key=jr.key(1), steps=100)
    assert turns == rotation_turns(rotation, MIXTURE, key=jr.key(1), steps=300)[: len(turns)]
    assert turns != rotation_turns(rotation, MIXTURE, key=jr.key(2), steps=100)
    assert [turn.step for turn in turns] == [0, 0, 3, *range(10, 100, 10)]
    assert [turn.seat for turn in turns] == [i % 3 for i in range(12)]
    table = Timetable(rotation, MIXTURE, run_keys(jr.key(1))[1])
    for step in range(100):
        present = table.residents(step)
        assert len({turn.family for turn in present}) == len(present) == (2 if step < 3 else 3)
        drawn = table.drawn(step)
        assert len({turn.seat for turn, _ in drawn}) == 2 and all(turn in present for turn, _ in drawn)


def test_families_count_by_their_shares() -> None:
    # Without turns: what a family counts in a meta-step is its share in the mean.
    table = Timetable(Rotation(5, 2, None), MIXTURE, jr.key(0))
    total = dict.fromkeys(range(5), 0.0)
    steps = 20_000
    for step in range(table.filling * 5, table.filling * 5 + steps):
        for turn, weight in table.drawn(step):
            total[turn.family] += weight / steps
    for family, share in enumerate(MIXTURE.shares):
        # A weight is share * 5 / 2 with probability 2 / 5.
        assert abs(total[family] - share) < 5 * share * math.sqrt(1.5 / steps)


def test_turns_are_drawn_by_weight() -> None:
    mixture = Mixture(tuple(Quadratics(i) for i in range(1, 41)), tuple([1.0, 3.0] * 20))
    turns = rotation_turns(Rotation(2, 1, 1), mixture, key=jr.key(0), steps=8000)
    heavy = sum(turn.family % 2 for turn in turns) / len(turns)
    assert abs(heavy - 0.75) < 0.02


def test_all_families_at_once_are_a_mixture() -> None:
    # Nothing is random in single tasks that are unrolled, so both ways compute the same.
    problem = eqx.tree_at(lambda p: p.family, PROBLEM, Mixture(PARABOLAS, (1.0, 2.0, 3.0, 4.0)))
    apart = trained(6, Rotation(4, 4, None), problem=problem, inner=Unrolled())
    together = trained(6, None, problem=problem, inner=Unrolled())
    np.testing.assert_allclose(log_rate(apart.last), log_rate(together.last), rtol=1e-6)
    np.testing.assert_allclose(apart.history.values, together.history.values, rtol=1e-6)
    assert apart.programs == 1 and float(log_rate(apart.last)) != float(log_rate(descent(0.1)))


def test_a_resumed_run_gives_the_same_bits(tmp_path: Path) -> None:
    rotation = Rotation(2, 1, 3)

    def run(steps: int, name: str, resume: bool) -> MetaResult:
        sinks = [CSVFile(tmp_path / f"{name}.csv", append=resume)]
        return trained(
            steps, rotation, checkpoint=tmp_path / name, resume=resume, sinks=sinks, sink_every=4, checkpoint_every=5
        )

    whole = run(20, "whole", False)
    # In the middle of a turn, and where one begins.
    for stops in ((5, 20), (9, 11, 20)):
        name = "-".join(map(str, stops))
        # Of one length of schedule, so that the outer algorithm is told the same.
        parts = [run(stop, name, i > 0) for i, stop in enumerate(stops)][-1]
        assert parts.history.values == whole.history.values
        assert eqx.tree_equal(parts.last, whole.last)
    assert whole.programs == 2


def test_losses_of_kinds_are_told(tmp_path: Path) -> None:
    trained(12, Rotation(3, 2, 4), sinks=[CSVFile(tmp_path / "rows.csv")], sink_every=1)
    rows = list(csv.DictReader((tmp_path / "rows.csv").read_text().splitlines()))
    names = [name for name in rows[0] if name.startswith("loss:")]
    assert names == [
        "loss:SingleTask.0",
        "loss:SingleTask.1",
        "loss:SingleTask.2",
        "loss:SingleTask.3",
        "loss:Quadratics",
    ]
    table = Timetable(Rotation(3, 2, 4), MIXTURE, run_keys(jr.key(0))[1])
    for row in rows:
        seen = {name for name in names if row[name] not in ("", "nan")}
        assert seen == {names[turn.family] for turn, _ in table.drawn(int(row["step"]) - 1)}
    many = Mixture(tuple(Parabolas(1.0 + i) for i in range(33)))
    problem = eqx.tree_at(lambda p: p.family, PROBLEM, many)
    told: list[dict[str, float]] = []
    result = trained(3, Rotation(2, 1, 1), problem=problem, sinks=[lambda _, row: told.append(dict(row))])
    assert [name for name in told[0] if name.startswith("loss:")] == ["loss:Parabolas"]
    assert result.programs == len({t.family for t in rotation_turns(Rotation(2, 1, 1), many, key=jr.key(0), steps=3)})


def test_devices_agree() -> None:
    problem = eqx.tree_at(lambda p: p.family, PROBLEM, Mixture((Parabolas(3.0), Quadratics(2, condition=4.0))))
    rotation = Rotation(1, 1, 2)
    alone = trained(5, rotation, problem=problem)
    mesh = make_mesh(tasks=2, devices=jax.devices()[:2])
    for estimator in (TaskParallel(Mixed(PES(0.1, 2)), mesh), Mixed(TaskParallel(PES(0.1, 2), mesh))):
        spread = trained(5, rotation, problem=problem, estimator=estimator)
        for a, b in zip(jtu.tree_leaves(spread.last), jtu.tree_leaves(alone.last), strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-5)


def test_wrong_use_is_refused() -> None:
    with pytest.raises(ValueError, match="cannot be drawn of `resident=2`"):
        Rotation(2, 3)
    with pytest.raises(ValueError, match="needs `metaopt.meta.Mixed"):
        trained(1, Rotation(), estimator=PES(0.1, 2))
    with pytest.raises(TypeError, match="is for several families"):
        trained(1, Rotation(), problem=eqx.tree_at(lambda p: p.family, PROBLEM, Parabolas(2.0)))
    many = Mixture(tuple(Parabolas(1.0 + i) for i in range(17)))
    with pytest.warns(UserWarning, match="All 17 families of the mixture go into one program"):
        with pytest.raises(TypeError, match="Wrap the estimator"):
            trained(1, None, estimator=PES(0.1, 2), problem=eqx.tree_at(lambda p: p.family, PROBLEM, many))
