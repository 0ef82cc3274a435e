"""Solutions that are not minima, and the way down."""

import jax.numpy as jnp
import numpy as np
import pytest

from metaopt import scf

from .gaussians import hydrogens


pytestmark = pytest.mark.usefixtures("x64")


@pytest.mark.slow
def test_a_molecule_near_its_minimum_is_stable() -> None:
    system = hydrogens(0.0, 1.4)
    solution = scf.solve(system)
    for unrestricted in (False, True):
        found = scf.stability(system, solution, unrestricted=unrestricted)
        assert found.stable and found.eigenvalue > 0 and found.energy >= solution.energy


@pytest.mark.slow
def test_the_eigenvalue_has_the_sign_of_the_second_derivative() -> None:
    system = hydrogens(0.0, 1.4)
    solution = scf.solve(system)
    found = scf.stability(system, solution, unrestricted=True)
    # Two orbitals, so that the only rotations are those of each spin. Second differences along both.
    occupied, virtual = solution.orbitals[0].T

    def energy(*angles: float) -> float:
        turned = [np.cos(angle) * occupied + np.sin(angle) * virtual for angle in angles]
        return float(system.unrestricted().fock(jnp.stack([jnp.outer(x, x) for x in turned]))[1])

    step, here = 1e-3, float(solution.energy)
    curvatures = [(energy(step, s * step) + energy(-step, -s * step) - 2 * here) / step**2 for s in (1, -1)]
    gap = float(solution.orbital_energies[0, 1] - solution.orbital_energies[0, 0])
    # Along a unit vector of both angles, with E'' = 2 H for orbitals of one electron.
    np.testing.assert_allclose(found.eigenvalue, min(curvatures) / 4 / gap, rtol=1e-4)


@pytest.mark.slow
def test_a_broken_bond_is_followed_to_another_spin_density() -> None:
    system = hydrogens(0.0, 5.0)
    closed = scf.solve(system)
    assert scf.stability(system, closed).stable
    found = scf.stability(system, closed, unrestricted=True)
    assert not found.stable and found.eigenvalue < -0.01 and found.energy < closed.energy
    followed = scf.follow(system.unrestricted(), scf.solve(system.unrestricted(), guess=closed))
    assert followed.descents == 1 and followed.stability.stable
    assert followed.solution.result == scf.RESULTS.converged
    # Two atoms far apart.
    atom = scf.solve(hydrogens(0.0, electrons=(1, 0)))
    np.testing.assert_allclose(followed.solution.energy, 2 * atom.energy, atol=1e-3)
    assert followed.fock_builds > followed.solution.fock_builds


@pytest.mark.slow
def test_an_excited_solution_is_followed_down() -> None:
    system = hydrogens(0.0, 1.4)
    ground = scf.solve(system)
    # With both electrons in the other orbital, which symmetry makes a solution as well.
    orbital = ground.orbitals[0][:, 1:]
    excited = scf.solve(system, scf.LevelShift(scf.Roothaan(), 5.0), guess=orbital @ orbital.T)
    assert excited.result == scf.RESULTS.converged and excited.energy > ground.energy + 0.1
    assert not scf.stability(system, excited).stable
    followed = scf.follow(system, excited)
    np.testing.assert_allclose(followed.solution.energy, ground.energy, atol=1e-8)


@pytest.mark.slow
def test_no_rotations_at_all() -> None:
    system = hydrogens(0.0, electrons=(1, 0))
    solution = scf.solve(system)
    found = scf.stability(system, solution)
    assert found.stable and found.energy == solution.energy


def test_what_is_refused() -> None:
    system = hydrogens(0.0, 1.4)
    with pytest.raises(ValueError, match="`iterations` must be at least 1"):
        scf.stability(system, scf.solve(system), iterations=0)
    with pytest.raises(ValueError, match="`attempts` must be at least 1"):
        scf.follow(system, attempts=0)
