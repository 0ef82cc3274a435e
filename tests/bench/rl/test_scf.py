"""`rl-scf` on two molecules."""

import pytest

from metaopt.bench.rl import _scf


@pytest.mark.slow
@pytest.mark.usefixtures("x64", "pyscf")
def test_a_report_of_two_molecules() -> None:
    report = _scf._run((("Sc",), ("N",), (1.0,)), (("Sc",), ("N",), (1.05,)), 2, [0])
    ratio, static, lost = report.claims
    rows = {(row["molecules"], row["policy"]): row for row in report.rows}
    assert len(rows) == 2 * 7
    assert rows["unseen", "default"]["ratio"] == 1 and rows["unseen", "default"]["builds"] > 2
    assert ratio.id == "fock_builds_ratio" and ratio.value == rows["unseen", "learned, seed 0"]["ratio"]
    assert static.id == "static_fock_builds_ratio" and 0 < static.value <= 2
    assert lost.id == "unconverged" and lost.value == rows["unseen", "learned, seed 0"]["lost"]
