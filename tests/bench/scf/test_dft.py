"""`scf-dft` on one small molecule."""

import math
from typing import Any

import pytest

from metaopt.bench.scf import _dft, _molecules
from metaopt.scf import LDA


@pytest.mark.slow
@pytest.mark.usefixtures("x64", "pyscf")
def test_a_report_of_one_molecule(monkeypatch: pytest.MonkeyPatch) -> None:
    case: Any = _molecules.MolecularCase((("H", (0.0, 0.0, 0.0)), ("H", (0.0, 0.0, 0.74))), "sto-3g")
    monkeypatch.setattr(_dft, "MOLECULES", {"hydrogen": case})
    monkeypatch.setattr(_dft, "_FUNCTIONALS", {"lda,vwn": LDA()})
    report = _dft._run(("hydrogen",), 0)
    (claim,), (row,) = report.claims, report.rows
    assert claim.id == "max_abs_error_hartree" and claim.value == row["error"] < 1e-8
    assert math.isclose(row["energy"], row["pyscf"], abs_tol=1e-8)
