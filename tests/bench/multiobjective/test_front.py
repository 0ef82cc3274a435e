"""What a search for a front spends is counted, and said beside what its rivals spend."""

import json
from pathlib import Path

import pytest

from metaopt.bench.multiobjective import _front
from metaopt.multiobjective import make_problem


@pytest.mark.slow
def test_evaluations_are_counted() -> None:
    found = _front.counted(make_problem("bnh"), 4, 6)
    # Points and trials of 6 steps, 5 rounds of 20 and one, and what begins and ends them.
    each = 2 * 6 + 1 + 5 * 21 + 2
    assert found["gradients"] == 4 * each and found["values"] == 4
    assert found["constraints"] > found["gradients"]


@pytest.mark.slow
def test_claims_say_what_both_sides_spend(monkeypatch: pytest.MonkeyPatch) -> None:
    def measured(_: object, script: str, name: str, *rivals: object, **options: object) -> dict[str, object]:
        del script, options
        names = [rival for rival in rivals if str(rival).startswith("nsga")]
        ideal = make_problem(name).ideal
        assert ideal is not None
        shared = {"fronts": {n: [[ideal.tolist()]] * 3 for n in names}, "cpu_seconds": {n: [2.0] * 3 for n in names}}
        return shared | {"evaluations": {n: [25_000, 25_091] for n in names}, "pymoo": "0.6"}

    ours = {"volume": 2.0, "worst": 2.0, "seconds": 0.1, "cold": 4.1, "feasible": 1.0}
    monkeypatch.setattr(_front, "_ours", lambda *_: ours)
    monkeypatch.setattr(_front, "counted", lambda *_: {"values": 0, "gradients": 7080, "constraints": 7080})
    monkeypatch.setattr(_front._peers, "run", measured)
    monkeypatch.setattr(_front._peers, "interpreter", lambda _: Path("python"))
    wins, warm, cold = _front.run().claims
    assert wins.value == 7 and wins.budget is not None and wins.budget.gradients == 70_800
    assert wins.rival is not None and str(wins.rival) == "NSGA-II and NSGA-III of pymoo (0.6)"
    assert wins.rival.budget.values == 25_091 and "70,800" in wins.unequal
    assert warm.value == pytest.approx(20) and warm.compile_seconds == pytest.approx(4) and not warm.compile_counted
    assert cold.value == pytest.approx(2 / 4.1) and cold.compile_counted
    feasible, fronts = _front.constrained().claims
    assert feasible.rival is None and fronts.rival is not None and fronts.rival.budget.constraints == 25_091
    json.dumps(_front.run().to_json("moo-front", {}))
