"""How a self-consistent field calculation ends."""

import equinox as eqx
from jaxtyping import Array, Float, Int

from ..base import Matrices


class RESULTS(eqx.Enumeration):
    """How [`metaopt.scf.solve`][] ended, each with a sentence of advice."""

    converged = "Converged."
    max_cycles = (
        "The cycles ran out before energy and gradient met their tolerances. Allow more `max_cycles`, or try another "
        "accelerator (`ADIIS` switching to `CDIIS`, `SecondOrder`) or another guess."
    )
    oscillating = (
        "The energy goes up and down without settling. Damp (`Damping`), shift virtual orbitals (`LevelShift`), or use "
        "`SecondOrder`."
    )
    diverged = (
        "A number became infinite or NaN; the last finite density was kept. Check the integrals, and use an "
        "accelerator that is bounded by the energy: `OptimalDamping`, `EDIIS` or `SecondOrder`."
    )
    dependent = (
        "The basis is linearly dependent: the overlap has an eigenvalue below 1e-8. Use fewer diffuse functions, or "
        "move atoms apart."
    )


class Solution(eqx.Module):
    """What [`metaopt.scf.solve`][] found.

    - `energy`: the total energy.
    - `density`: the density matrix of each spin's orbitals (of one electron per orbital) in the basis of the system.
    - `fock`: the Fock matrix of each spin in that basis.
    - `orbitals`: their coefficients, columns by rising energy, those of `density` first.
    - `orbital_energies`: their energies.
    - `gradient_norm`: the norm of the derivative of the energy by rotations of orbitals, as PySCF defines it.
    - `energy_change`: the change of the energy in the last cycle.
    - `cycles`: how many densities were made after the first.
    - `fock_builds`: how many Fock matrices were built, that of the guess and those inside of the accelerator included.
    - `result`: a member of [`metaopt.scf.RESULTS`][].
    - `occupations`: electrons in each orbital, of at most one; whole numbers without a temperature.
    - `entropy`: of these, in units of the Boltzmann constant: the free energy is `energy - temperature * entropy`.
    """

    energy: Float[Array, ""]
    density: Matrices
    fock: Matrices
    orbitals: Matrices
    orbital_energies: Float[Array, "spin n"]
    gradient_norm: Float[Array, ""]
    energy_change: Float[Array, ""]
    cycles: Int[Array, ""]
    fock_builds: Int[Array, ""]
    result: RESULTS
    occupations: Float[Array, "spin n"]
    entropy: Float[Array, ""]
