import numpy as np
import pytest

from metaopt.bench.l2o._ablation import ADAM, BASE, UNTRAINED, claims, rows, variants
from metaopt.bench.l2o._rules import digits_setup


pytest.importorskip("sklearn")


@pytest.fixture
def tried():
    return variants(digits_setup(30))


def test_all_variants_take_as_many_inner_steps(tried):
    base, *others = tried
    assert base.name == BASE and base.meta_steps == 30
    assert {v.inner_steps for v in tried} == {30 * 16 * 20}
    assert len({v.name for v in tried}) == len(tried)
    assert {v.factor for v in others} == {"objective", "estimator", "augmentation", "horizon"}


def test_a_variant_differs_from_the_base_in_its_factor_alone(tried):
    (problem, _), estimator = tried[0].stages[0], tried[0].estimator
    for variant in tried[1:]:
        for new, _ in variant.stages:
            changed = {
                "objective": new.objective != problem.objective,
                "estimator": variant.estimator != estimator,
                "augmentation": new.family != problem.family,
                "horizon": new.horizon != problem.horizon,
            }
            # Estimators of whole episodes have a horizon of their own; the last stage of a curriculum is the base.
            free = {"horizon"} if variant.factor in ("estimator", "horizon") else set()
            assert {factor for factor, is_new in changed.items() if is_new} - free == {variant.factor} - free


def finals(tried, **known):
    constant = {v.name: np.full(3, 0.02) for v in tried} | {UNTRAINED: np.full(3, 0.04), ADAM: np.full(3, 0.06)}
    return constant | {BASE: np.array([0.02, 0.02, 0.03])} | {name: np.array(values) for name, values in known.items()}


def test_the_best_is_that_with_the_highest_median_of_paired_ratios(tried):
    digits = finals(tried, NRES=[0.01, 0.04, 0.01], TruncatedUnroll=[np.inf, 0.2, 0.2])
    waves = finals(tried, curriculum=[0.01, 0.01, 0.01])
    found = {claim.id: claim for claim in claims(tried, {"digits": digits, "600 steps": finals(tried), "waves": waves})}
    # NRES: 2, 0.5, 3.
    assert found["best_over_base"].value == pytest.approx(2)
    assert found["best_over_base"].note == "NRES; over 3 meta-training seeds 0.5 to 3"
    assert found["best_over_base_on_waves"].value == pytest.approx(2)
    assert found["best_over_base_on_waves"].note.startswith("curriculum;")
    assert found["untrained_over_base"].value == pytest.approx(2)
    # Variants are compared at one budget; what is not meta-trained is not.
    same, other = found["best_over_base"], found["adam_over_base"]
    assert same.rival is not None and same.budget == same.rival.budget and not same.unequal
    assert other.rival is not None and other.budget != other.rival.budget and other.unequal
    assert found["adam_over_base_at_600_steps"].value == pytest.approx(3)
    assert found["spread_of_seeds"].value == pytest.approx(1.5)
    # The worst median over the best: 0.2 / 0.02 over 0.5.
    assert found["spread_of_estimator"].value == pytest.approx(20)
    assert found["spread_of_estimator"].note == "worst over best: TruncatedUnroll over NRES"
    assert found["spread_of_objective"].value == pytest.approx(1)


def test_rows_come_by_factor(tried):
    extras = {v.name: {"s per run": 1.0, "diverged": 0} for v in tried}
    table = rows(tried, {"digits": finals(tried, NRES=[0.01, 0.04, 0.01])}, extras)
    assert [row["factor"] for row in table] == [BASE, *(v.factor for v in tried)]
    row = next(row for row in table if row["variant"] == "NRES")
    assert row["final loss"] == pytest.approx(0.01) and row["over seeds"] == "0.01 to 0.04"
    assert row["digits: base over it"] == pytest.approx(2) and row["digits: Adam over it"] == pytest.approx(6)
    assert row["inner steps"] == 9600
    assert table[0]["variant"] == UNTRAINED and "s per run" not in table[0]
