"""Molecules with integrals of PySCF, against PySCF."""

import importlib
from typing import Any

import equinox as eqx
import jax.numpy as jnp
import jax.tree_util as jtu
import numpy as np
import pytest

from metaopt import scf


WATER = "O 0 0 0.1178; H 0 0.7555 -0.4712; H 0 -0.7555 -0.4712"
pytestmark = pytest.mark.usefixtures("x64", "pyscf")
solve = eqx.filter_jit(scf.solve)


def _pyscf(kind: str, fitted: bool = False, **options: Any) -> Any:
    gto, field = (importlib.import_module(f"pyscf.{name}") for name in ("gto", "scf"))
    made = getattr(field, kind)(gto.M(verbose=0, **options))
    made = made.density_fit() if fitted else made
    return made.run(conv_tol=1e-11, conv_tol_grad=1e-7)


def test_closed_shell() -> None:
    theirs = _pyscf("RHF", atom=WATER, basis="sto-3g")
    ours = solve(scf.System.from_pyscf(WATER))
    np.testing.assert_allclose(ours.energy, theirs.e_tot, atol=1e-9)
    np.testing.assert_allclose(ours.orbital_energies[0], theirs.mo_energy, atol=1e-5)
    np.testing.assert_allclose(2 * ours.density[0], theirs.make_rdm1(), atol=1e-5)


def test_open_shell() -> None:
    atoms = "O 0 0 0; O 0 0 1.2075"
    theirs = _pyscf("UHF", atom=atoms, basis="sto-3g", spin=2)
    system = scf.System.from_pyscf(atoms, spin=2)
    ours = solve(system)
    np.testing.assert_allclose(ours.energy, theirs.e_tot, atol=1e-8)
    np.testing.assert_allclose(jnp.sum(ours.density * system.overlap[None], axis=(1, 2)), [9, 7], atol=1e-9)


def test_density_fitting() -> None:
    theirs = _pyscf("RHF", fitted=True, atom=WATER, basis="sto-3g")
    system = scf.System.from_pyscf(WATER, density_fit=True)
    assert isinstance(system.interaction, scf.DensityFitted)
    np.testing.assert_allclose(solve(system).energy, theirs.e_tot, atol=1e-8)


def test_a_molecule_that_is_made_already() -> None:
    gto: Any = importlib.import_module("pyscf.gto")
    molecule = gto.M(atom=WATER, basis="sto-3g", charge=1, spin=1, verbose=0)
    system = scf.System.from_pyscf(molecule)
    assert system.electrons == (5, 4) and not system.restricted


@pytest.mark.parametrize("guess", ["minao", "sad", "huckel"])
def test_guesses_hold_all_electrons(guess: Any) -> None:
    system = scf.System.from_pyscf(WATER, basis="6-31g", guess=guess)
    assert system.guess is not None
    np.testing.assert_allclose(jnp.sum(system.guess * system.overlap), 10, atol=0.3)
    theirs = _pyscf("RHF", atom=WATER, basis="6-31g")
    np.testing.assert_allclose(solve(system).energy, theirs.e_tot, atol=1e-8)


def test_the_default_guess_saves_fock_builds() -> None:
    system = scf.System.from_pyscf(WATER, basis="6-31g")
    assert solve(system).fock_builds < solve(system, guess="core").fock_builds


@pytest.mark.parametrize(
    ("molecule", "options", "words"),
    [
        (WATER, {"charge": 1, "restricted": True}, r"odd number of electrons, 9 \(5 up, 4 down\)"),
        (WATER, {"spin": 1}, "10 electrons cannot have 1 of them unpaired. Give a `spin` .* that is even"),
        (WATER, {"spin": 12}, "10 electrons cannot have 12 of them unpaired"),
        (WATER, {"charge": 11}, "-1 electrons cannot have"),
        ("H 0 0 0; H 0 0 0", {}, r"Atoms 0 \(H\) and 1 \(H\) coincide"),
        (WATER, {"basis": "no-such-basis"}, "PySCF has no basis 'no-such-basis' for the elements H, O"),
        ("Qq 0 0 0; H 0 0 1", {}, "The atoms could not be read: .*unknown element"),
        ("H 0 0 nan; H 0 0 1", {}, "not finite"),
        (WATER, {"unit": "feet"}, "`unit` must be 'angstrom' or 'bohr', but 'feet'"),
        (WATER, {"basis": "cc-pvqz", "max_gib": 0.1}, r"The integrals of 115 basis functions would take 0.663 GiB"),
        ("H 0 0 0; H 0 0 0.00001", {"unit": "bohr"}, "coincide: they are 1e-05 bohr apart"),
    ],
)
def test_what_is_refused(molecule: str, options: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        scf.System.from_pyscf(molecule, **options)


def test_a_missing_program_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ModuleNotFoundError, match=r"PySCF is not installed. Install the extra: `pip install metaopt\["):
        scf.System.from_pyscf(WATER)


def test_many_geometries_are_those_one_by_one() -> None:
    places = np.array([[0.0, 0.0, 0.1178], [0.0, 0.7555, -0.4712], [0.0, -0.7555, -0.4712]])
    moved = places + np.random.default_rng(0).normal(0, 0.05, (3, 3, 3))
    many = scf.System.geometries(WATER, moved, basis="6-31g")
    one = scf.System.from_pyscf(list(zip("OHH", moved[1].tolist(), strict=True)), basis="6-31g")
    for name in ("overlap", "core", "interaction", "nuclear_energy", "guess"):
        found, wanted = (jtu.tree_leaves(getattr(x, name)) for x in (many, one))
        for a, b in zip(found, wanted, strict=True):
            np.testing.assert_allclose(a[1], b, atol=1e-10)
    assert many.electrons == one.electrons and many.restricted == one.restricted
    assert many.geometry is not None and one.geometry is not None
    np.testing.assert_allclose(many.geometry.positions[1], one.geometry.positions, atol=1e-12)
    assert many.geometry.shells == one.geometry.shells


def test_positions_of_geometries_are_checked() -> None:
    with pytest.raises(ValueError, match=r"\[geometries, atoms, 3\], but \[3, 3\]"):
        scf.System.geometries(WATER, np.zeros((3, 3)))
    with pytest.raises(ValueError, match="coincide"):
        scf.System.geometries(WATER, np.zeros((1, 3, 3)))
