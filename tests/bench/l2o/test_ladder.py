import numpy as np

from metaopt.bench.l2o._field import Field, geometric
from metaopt.bench.l2o._generalization import Curves, _report, interquartile_mean, single_rate
from metaopt.bench.l2o._ladder import claim
from metaopt.bench.l2o._unseen import unseen
from metaopt.tasks import Quadratics


def test_claims_take_the_middle_or_the_worst_family():
    found = {"a": np.asarray([9.0, 10.0, 11.0]), "b": np.asarray([0.0, 1.0, 5.0]), "c": np.asarray([3.0, 3.0, 3.0])}
    terms = {name: {"rival": None, "left_out": name} for name in found}
    middle, worst = claim("x", found, terms), claim("x", found, terms, worst=True)
    assert (middle.left_out, worst.left_out) == ("c", "b")
    assert (middle.value, worst.value) == (3.0, 1.0)
    assert "the middle one, c: 3 to 3 over seeds" in middle.note and "the worst, b: 0 to 5" in worst.note


def test_a_zero_loss_has_a_geometric_mean():
    np.testing.assert_allclose(geometric(np.asarray([[1.0, 4.0], [1.0, 1.0]])), [1.0, 2.0])
    assert 0 < geometric(np.asarray([[0.0], [1.0]]))[0] < 1e-20


def test_interquartile_mean():
    assert interquartile_mean([100.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, -50.0]) == 3.5


def test_one_rate_for_all_families():
    finals = {"a": np.asarray([1.0, 2.0, 4.0]), "b": np.asarray([9.0, 1.0, 1.5]), "c": np.asarray([3.0, 1.0, 3.0])}
    assert single_rate(finals) == 1


def test_a_report_counts_what_diverged_and_compares_with_celo():
    field = Field(Quadratics(2), 20, every=10, tasks=4)
    fast, slow = np.asarray([[4.0, 1.0, 0.5]] * 5), np.asarray([[4.0, 2.0, 1.0]] * 5)
    methods = {"adam": slow, "general": fast, "celo": slow}
    ends = np.asarray([0.5, np.inf, 9.0, 1.0])
    curves = Curves(field, methods, np.full(4, 4.0), ends)
    report = _report({"wide": curves, "deep": curves}, unseen(), 0.01)
    values = {claim.id: claim.value for claim in report.claims}
    assert values == {"iqm_speedup_vs_adam": 2.0, "iqm_final_vs_celo": 2.0, "diverged": 4.0}
    assert report.rows[0]["adam: fewer steps"] == 2.0 and len(report.rows) == 2
    without = Curves(field, {"adam": slow, "general": fast}, np.full(4, 4.0), np.ones(4))
    report = _report({"wide": without}, unseen(), 0.01)
    assert {claim.id for claim in report.claims} == {"iqm_speedup_vs_adam", "diverged"}
    assert any("METAOPT_CELO" in note for note in report.notes)


def test_there_are_enough_unseen_families():
    cases = unseen()
    assert len(cases) >= 12 and len({case.novelty for case in cases.values()}) == len(cases)
