"""The driver against textbooks and finite differences."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from metaopt import scf

from .gaussians import arrays, helium_hydride, hydrogens, shell


pytestmark = pytest.mark.usefixtures("x64")


def test_hydrogen_molecule_of_the_textbook() -> None:
    solution = scf.solve(hydrogens(0.0, 1.4))
    # Szabo and Ostlund, table 3.11 and section 3.5.2.
    np.testing.assert_allclose(solution.energy, -1.1167, atol=5e-5)
    np.testing.assert_allclose(solution.orbital_energies[0], [-0.578, 0.670], atol=5e-4)


def test_helium_hydride_of_the_textbook() -> None:
    solution = scf.solve(helium_hydride())
    # Szabo and Ostlund, appendix B.
    np.testing.assert_allclose(solution.energy, -2.860662, atol=5e-6)
    np.testing.assert_allclose(solution.orbital_energies[0], [-1.597448, -0.061670], atol=5e-6)
    assert solution.result == scf.RESULTS.converged


def test_a_solution_is_what_it_says() -> None:
    system = hydrogens(0.0, 1.5, 3.4, 5.0, diffuse=True)
    s, found = system.overlap, scf.solve(system)
    identity = jnp.eye(system.functions)
    np.testing.assert_allclose(found.orbitals[0].T @ s @ found.orbitals[0], identity, atol=1e-10)
    np.testing.assert_allclose(jnp.trace(found.density[0] @ s), 2.0, atol=1e-10)
    np.testing.assert_allclose(found.density[0] @ s @ found.density[0], found.density[0], atol=1e-10)
    fock, energy = system.fock(found.density)
    np.testing.assert_allclose(found.fock, fock, atol=1e-10)
    np.testing.assert_allclose(found.energy, energy, atol=1e-12)
    left = found.fock[0] @ found.orbitals[0]
    np.testing.assert_allclose(left, s @ found.orbitals[0] * found.orbital_energies, atol=1e-4)


def test_guesses() -> None:
    system = hydrogens(0.0, 1.5, 3.4, 5.0)
    with pytest.raises(ValueError, match=r"'natural' needs a density, but the system has none"):
        scf.solve(system, guess="natural")
    with pytest.raises(ValueError, match=r"no guess 'minao'; there are `natural`"):
        scf.solve(system, guess="minao")
    with pytest.raises(ValueError, match=r"has shape \(4, 4\), or \(1, 4, 4\) with one per spin, but \(1, 3, 3\)"):
        scf.solve(system, guess=jnp.zeros((3, 3)))
    cold = scf.solve(system)
    warm = scf.solve(system, guess=cold)
    assert warm.fock_builds == 2 < cold.fock_builds
    again = scf.solve(system, guess=cold.density[0])
    np.testing.assert_allclose([warm.energy, again.energy], cold.energy, atol=1e-10)
    informed = eqx.tree_at(lambda x: x.guess, system, 2 * cold.density[0], is_leaf=lambda x: x is None)
    for guess in ("natural", "superposition"):
        assert scf.solve(informed, guess=guess).fock_builds == 2
    open_shell = scf.solve(system.unrestricted(), guess=cold)
    assert open_shell.fock_builds == 2
    np.testing.assert_allclose(open_shell.energy, cold.energy, atol=1e-10)


def test_budget_and_advice() -> None:
    system = hydrogens(0.0, 1.5, 3.4, 5.0, diffuse=True)
    short = scf.solve(system, scf.Mixing(rate=0.1), max_cycles=3)
    assert short.result == scf.RESULTS.max_cycles and short.cycles == 3 and short.fock_builds == 4
    assert "Allow more `max_cycles`" in scf.RESULTS[short.result]
    with pytest.raises(ValueError, match="`max_cycles` must be at least 1"):
        scf.solve(system, max_cycles=0)
    with pytest.raises(eqx.EquinoxRuntimeError, match="Allow more `max_cycles`"):
        scf.solve(system, scf.Mixing(rate=0.1), max_cycles=3, throw=True)
    with jax.enable_x64(False), pytest.raises(ValueError, match="needs double precision"):
        scf.solve(system)


def test_oscillation_is_told() -> None:
    class Swinging(scf.AbstractAccelerator):
        """Turns the order of orbitals around every other time."""

        def init(self, params: Any, *, key: Any = None) -> Any:
            return jnp.asarray(1.0)

        def step(self, state: Any, params: Any, grads: Any, *, value: Any = None) -> Any:
            return -state, state * params

    found = scf.solve(hydrogens(0.0, 1.4, 3.0, 4.4), Swinging(), max_cycles=12)
    assert found.result == scf.RESULTS.oscillating


def test_divergence_keeps_the_last_finite_density() -> None:
    class Exploding(scf.AbstractAccelerator):
        """Fails at the third step."""

        def init(self, params: Any, *, key: Any = None) -> Any:
            return jnp.asarray(0)

        def step(self, state: Any, params: Any, grads: Any, *, value: Any = None) -> Any:
            return state + 1, jnp.where(state == 2, jnp.nan, params)

    found = scf.solve(hydrogens(0.0, 1.5, 3.4, 5.0, diffuse=True), Exploding())
    assert found.result == scf.RESULTS.diverged and found.cycles == 3
    assert jnp.isfinite(found.energy) and jnp.all(jnp.isfinite(found.density))


def test_a_dependent_basis_that_nobody_could_check_is_told() -> None:
    system = hydrogens(0.0, 1.4)
    same = eqx.tree_at(lambda x: x.overlap, system, jnp.ones((2, 2)))
    assert scf.solve(same, max_cycles=2).result == scf.RESULTS.dependent


def _along(t: Any) -> scf.System:
    """A system whose integrals of all kinds depend on a number."""
    first, second = hydrogens(0.0, 1.5, 3.4), hydrogens(0.0, 1.7, 3.9)
    a, rest = eqx.partition(first, eqx.is_array)
    b = eqx.filter(second, eqx.is_array)
    return eqx.combine(jax.tree_util.tree_map(lambda x, y: x + t * (y - x), a, b), rest)


@pytest.mark.slow
@pytest.mark.parametrize("restricted", [True, False])
def test_derivatives_by_integrals_are_finite_differences(restricted: bool) -> None:
    def outcome(t: Any) -> jax.Array:
        system = _along(t)
        system = scf.System(
            system.overlap,
            system.core,
            system.interaction,
            system.nuclear_energy,
            None,
            (1, 1) if restricted else (2, 1),
            restricted,
        )
        found = scf.solve(system, energy_tolerance=1e-13, gradient_tolerance=1e-10)
        return jnp.stack([found.energy, jnp.sum(jnp.sin(found.density)), jnp.sum(jnp.cos(found.fock))])

    at, step = jnp.asarray(0.3), 1e-4
    forward, backward = (eqx.filter_jit(jac(outcome))(at) for jac in (jax.jacfwd, jax.jacrev))
    run = eqx.filter_jit(outcome)
    difference = (run(at + step) - run(at - step)) / (2 * step)
    np.testing.assert_allclose(forward, difference, rtol=1e-6)
    np.testing.assert_allclose(backward, forward, rtol=1e-8)


def test_where_it_ends_does_not_depend_on_hyperparameters() -> None:
    system = hydrogens(0.0, 1.5, 3.4, 5.0)

    def energy(shift: jax.Array) -> jax.Array:
        return scf.solve(system, scf.LevelShift(scf.CDIIS(), shift), energy_tolerance=1e-12).energy

    assert jax.grad(energy)(jnp.asarray(0.2)) == 0
    np.testing.assert_allclose(energy(jnp.asarray(0.2)), energy(jnp.asarray(0.3)), atol=1e-10)


@pytest.mark.slow
def test_unroll_is_the_loop() -> None:
    system = hydrogens(0.0, 1.5, 3.4, 5.0, diffuse=True)
    solution = scf.solve(system)
    path = scf.unroll(system, scf.Switching(), cycles=int(solution.cycles))
    np.testing.assert_allclose(path.energies[-1], solution.energy, atol=1e-12)
    np.testing.assert_allclose(path.gradient_norms[-1], solution.gradient_norm, atol=1e-10)
    np.testing.assert_allclose(path.density, solution.density, atol=1e-10)
    np.testing.assert_array_equal(path.fock_builds, np.arange(1, int(solution.cycles) + 2))
    with pytest.raises(ValueError, match="`cycles` must be at least 1"):
        scf.unroll(system, scf.CDIIS(), cycles=0)


def test_unroll_is_differentiable_by_the_guess() -> None:
    system = hydrogens(0.0, 1.5, 3.4, 5.0)
    start = scf.solve(system).density[0]
    direction = jnp.asarray(np.random.default_rng(0).normal(size=(4, 4)))
    direction = direction + direction.T

    @jax.jit
    def first(t: jax.Array) -> jax.Array:
        return jnp.sum(scf.unroll(system, scf.CDIIS(), cycles=2, guess=start + t * direction).energies)

    at = jnp.asarray(0.05)
    difference = (first(at + 1e-5) - first(at - 1e-5)) / 2e-5
    np.testing.assert_allclose(jax.jit(jax.grad(first))(at), difference, rtol=1e-6)


@pytest.mark.slow
def test_degenerate_orbitals_have_finite_derivatives() -> None:
    places = [(np.cos(t), np.sin(t), 0.0) for t in 2 * np.pi * np.arange(3) / 3]
    places = [tuple(1.2 * x for x in place) for place in places]
    found = arrays([shell(place) for place in places], [(1.0, place) for place in places])
    system = scf.System.from_arrays(**found, electrons=2)

    def energy(core: jax.Array) -> jax.Array:
        changed = eqx.tree_at(lambda x: x.core, system, core)
        return jnp.sum(scf.unroll(changed, scf.CDIIS(), cycles=3).energies)

    assert jnp.all(jnp.isfinite(jax.grad(energy)(system.core)))


def test_progress_says_each_cycle(capfd: pytest.CaptureFixture[str]) -> None:
    found = eqx.filter_jit(lambda s: scf.solve(s, progress=True))(hydrogens(0.0, 1.5, 3.4, 5.0))
    jax.effects_barrier()
    lines = capfd.readouterr().out.splitlines()
    assert len(lines) == int(found.cycles) and f"energy {float(found.energy):.10f}" in lines[-1]
