"""The molecules of `scf-reference`, and how their results are counted."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from metaopt.bench.scf import _molecules, _reference
from metaopt.bench.scf._molecules import MOLECULES, lowest_known


REFERENCE = Path(__file__).parents[3].parent / "shared" / "data" / "scf" / "reference.json"


def _distances(atoms: list[tuple[str, list[float]]]) -> np.ndarray:
    at = np.array([position for _, position in atoms])
    return np.sort(np.linalg.norm(at[:, None] - at[None], axis=-1).ravel())


@pytest.mark.skipif(not REFERENCE.is_file(), reason="the reference file is not here")
def test_molecules_are_those_of_the_reference() -> None:
    known = json.loads(REFERENCE.read_text())["systems"]
    assert set(known) == set(MOLECULES)
    for name, case in MOLECULES.items():
        entry = known[name]
        lines = [line.split() for line in entry["atom"].split(";")]
        theirs = [(line[0], [float(x) for x in line[1:]]) for line in lines]
        ours = [(symbol, list(at)) for symbol, at in case.atoms]
        assert sorted(symbol for symbol, _ in ours) == sorted(symbol for symbol, _ in theirs)
        np.testing.assert_allclose(_distances(ours), _distances(theirs), atol=2e-6)
        told = {key: entry[key] for key in ("basis", "charge", "spin")}
        assert case.options == told and case.restricted == (entry["method"] == "RHF")


def test_what_is_known(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "reference.json"
    path.write_text(json.dumps({"systems": {"lih_ccpvdz": {"e_lowest": -8.0}}}))
    monkeypatch.setenv("METAOPT_SCF_REFERENCE", str(path))
    assert lowest_known("lih_ccpvdz", [-7.9, -7.8]) == -8.0
    assert lowest_known("h2o_ccpvdz", [-7.9, -7.8]) == -7.9
    monkeypatch.setenv("METAOPT_SCF_REFERENCE", str(tmp_path / "missing.json"))
    assert lowest_known("lih_ccpvdz", [-7.9]) == -7.9


@pytest.mark.slow
@pytest.mark.usefixtures("x64", "pyscf")
def test_a_report_of_one_molecule(monkeypatch: pytest.MonkeyPatch) -> None:
    case: Any = _molecules.MolecularCase((("H", (0.0, 0.0, 0.0)), ("H", (0.0, 0.0, 0.74))), "6-31g")
    monkeypatch.setattr(_reference, "MOLECULES", {"hydrogen": case})
    report = _reference._run({})
    claims = {claim.id: claim.value for claim in report.claims}
    assert claims["converged"] == 1 and claims["lowest_with_following"] == 1
    assert abs(claims["max_energy_excess"]) < 1e-9
    (row,) = report.rows
    theirs, ours = (int(row[key].rstrip("*")) for key in ("pyscf", "default"))
    assert claims["fock_builds_vs_pyscf_cdiis"] == ours / theirs
    done, builds, _ = _reference.pyscf_cdiis(case)
    assert done and builds == theirs
