"""Density functionals against libxc, and Kohn-Sham calculations against PySCF."""

import dataclasses
import importlib
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from metaopt import scf


FUNCTIONALS = {"lda,vwn": scf.LDA(), "pbe,pbe": scf.PBE(), "b3lyp": scf.B3LYP()}
WATER = "O 0 0 0.1178; H 0 0.7555 -0.4712; H 0 -0.7555 -0.4712"
pytestmark = pytest.mark.usefixtures("x64", "pyscf")


@pytest.mark.parametrize("name", FUNCTIONALS)
def test_energies_and_potentials_are_those_of_libxc(name: str) -> None:
    libxc: Any = importlib.import_module("pyscf.dft.libxc")
    generator = np.random.default_rng(0)
    densities = 10 ** generator.uniform(-4, 1, (2, 50))
    gradients = generator.normal(size=(2, 3, 50)) * 2 * densities[:, None]
    stacked = np.concatenate([densities[:, None], gradients], axis=1)
    given = densities if name == "lda,vwn" else stacked
    each, potentials = libxc.eval_xc(name, given, spin=1, deriv=1)[:2]
    squares = [np.sum(x * x, axis=0) for x in (gradients[0], gradients[1], gradients[0] + gradients[1])]
    fields = [jnp.asarray(x) for x in (*densities, *squares)]
    energy = FUNCTIONALS[name].energy
    np.testing.assert_allclose(energy(*fields), each * densities.sum(0), rtol=1e-10)
    up, down = jax.grad(lambda a, b: jnp.sum(energy(a, b, *fields[2:])), argnums=(0, 1))(*fields[:2])
    np.testing.assert_allclose(jnp.stack([up, down], axis=1), potentials[0], rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize(
    ("name", "restricted"),
    [
        ("lda,vwn", True),
        pytest.param("b3lyp", False, marks=pytest.mark.slow),
        pytest.param("pbe,pbe", True, marks=pytest.mark.slow),
    ],
)
def test_energy_on_the_same_grid(name: str, restricted: bool) -> None:
    gto, dft = (importlib.import_module(f"pyscf.{module}") for module in ("gto", "dft"))
    # A radical without degenerate orbitals, which a coarse grid would tell apart.
    atoms = WATER if restricted else "N 0 0 0; H 0 0.8 0.6; H 0 -0.8 0.6"
    molecule = gto.M(atom=atoms, basis="sto-3g", spin=not restricted, verbose=0)
    field = (dft.RKS if restricted else dft.UKS)(molecule)
    field.set(xc=name, conv_tol=1e-11)
    field.grids.level = 0
    system = scf.System.from_pyscf(molecule, functional=FUNCTIONALS[name], grid=0)
    ours = eqx.filter_jit(scf.solve)(system)
    assert ours.result == scf.RESULTS.converged
    np.testing.assert_allclose(ours.energy, field.kernel(), atol=1e-8)


@pytest.mark.slow
def test_the_response_is_the_derivative_of_the_fock_matrix() -> None:
    system = scf.System.from_pyscf("H 0 0 0; H 0 0 0.8", basis="6-31g", functional=scf.PBE(), grid=0)
    density = scf.unroll(system, scf.Roothaan(), cycles=1).density
    change = jnp.asarray(np.random.default_rng(0).normal(size=density.shape))
    change = change + change.swapaxes(-1, -2)

    @jax.jit
    def fock(t: Any) -> jax.Array:
        return system.fock(density + t * change)[0]

    difference = (fock(1e-4) - fock(-1e-4)) / 2e-4
    found = system.response(density, change)
    np.testing.assert_allclose(found + found.swapaxes(-1, -2), difference + difference.swapaxes(-1, -2), atol=1e-5)


def test_what_is_refused() -> None:
    with pytest.raises(ValueError, match="`grid` must be between 0 and 9, but 10"):
        scf.System.from_pyscf(WATER, functional=scf.LDA(), grid=10)
    with pytest.raises(ValueError, match=r"7 functions on \d+ points would take .* GiB, but at most 0.001 GiB"):
        scf.System.from_pyscf(WATER, functional=scf.LDA(), max_gib=0.001)
    system = scf.System.from_pyscf(WATER)
    with pytest.raises(ValueError, match="A `functional` needs a `grid`"):
        dataclasses.replace(system, functional=scf.LDA())
