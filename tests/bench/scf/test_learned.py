"""`scf-learned` and `scf-batch` on small cases."""

from typing import Any

import pytest

from metaopt.bench.scf import _batch, _learned
from metaopt.bench.scf._molecules import MolecularCase


@pytest.mark.slow
@pytest.mark.usefixtures("x64", "pyscf")
def test_a_family_and_two_molecules() -> None:
    families = {"water": _learned._Family("h2o_ccpvdz", "sto-3g", 0.03, 16, 4)}
    molecules: Any = {
        name: MolecularCase((("Li", (0.0, 0.0, 0.0)), ("H", (0.0, 0.0, length))), "sto-3g")
        for name, length in (("short", 1.5), ("middle", 1.7), ("long", 1.9), ("longer", 2.1))
    }
    report = _learned._run(families, molecules, 2)
    claims = {claim.id: claim.value for claim in report.claims}
    first = report.rows[0]
    assert claims["water_cycles_16"] == min(first["guess"], first["guess + response"]) < first["default"]
    assert claims["wrong"] == 0
    across = [row for row in report.rows if "learned" in row]
    ratio = sum(row["learned"] for row in across) / sum(row["default"] for row in across)
    assert len(across) == 4 and claims["cross_molecule_fock_builds_vs_default"] == ratio


@pytest.mark.slow
@pytest.mark.usefixtures("x64", "pyscf")
def test_a_batch_of_two() -> None:
    report = _batch._run({"sto3g": ("h2o_ccpvdz", "sto-3g", 2)}, 1)
    (row,) = report.rows
    assert row["largest difference"] < 1e-8
    claims = {claim.id: claim.value for claim in report.claims}
    assert claims == {"sto3g_scf_vs_pyscf": row["scf ratio"], "sto3g_end_to_end_vs_pyscf": row["end to end"]}
    assert min(claims.values()) > 0
