"""What is to be solved: integrals and numbers of electrons."""

import dataclasses
from collections.abc import Sequence
from typing import Any, Literal

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.tree_util as jtu
import numpy as np
from jaxtyping import Array, Float

from ..._core.arrays._numbers import POSITIVE, number
from ...backend import find, unusable
from ..base import AbstractFunctional, AbstractIntegrals, AbstractInteraction, Matrices
from ._checks import check_overlap, check_pairing, count_electrons, require_double
from ._density_functionals import Grid
from ._geometry import Geometry
from ._interactions import check_size, interaction, unpacked
from ._orbitals import occupy, smear, symmetric


class System(eqx.Module):
    """A Hartree-Fock or Kohn-Sham problem in a basis of functions, in atomic units.

    Its arrays are leaves, so a batch of systems of one size is a `vmap` over systems that [`metaopt.scf.stack`][] has
    stacked, and energies can be differentiated by integrals.

    **Attributes:**

    - `overlap`, `core`: the overlap and the one-electron Hamiltonian.
    - `interaction`: the two-electron integrals.
    - `nuclear_energy`: the repulsion of the nuclei.
    - `guess`: a density of all electrons to begin with, if there is one.
    - `electrons`: the numbers of electrons of spin up and down.
    - `restricted`: whether both spins share their orbitals.
    - `functional`, `grid`: for density functionals, and where their energy is summed.
    - `geometry`: where the atoms are and what functions they carry, which learned guesses need to know.
    - `temperature`: of the electrons, in hartree; without, the lowest orbitals are filled.
    """

    overlap: Float[Array, "n n"]
    core: Float[Array, "n n"]
    interaction: AbstractInteraction
    nuclear_energy: Float[Array, ""]
    guess: Float[Array, "n n"] | None
    electrons: tuple[int, int] = eqx.field(static=True)
    restricted: bool = eqx.field(static=True)
    functional: AbstractFunctional | None = None
    grid: Grid | None = None
    geometry: Geometry | None = None
    temperature: Float[Array, ""] | None = None

    def __check_init__(self) -> None:
        if (self.functional is None) != (self.grid is None):
            raise ValueError("A `functional` needs a `grid` to be summed on, and a `grid` is for a `functional`.")
        if self.geometry is not None and self.geometry.functions != self.functions:
            raise ValueError(
                f"The shells of `geometry` have {self.geometry.functions} functions, but there are {self.functions}."
            )

    @classmethod
    def from_arrays(
        cls,
        overlap: Any,
        core: Any,
        repulsion: Any,
        nuclear_energy: Any,
        electrons: int | tuple[int, int],
        *,
        fitted: bool = False,
        restricted: bool | None = None,
        guess: Any = None,
        max_gib: float = 8.0,
    ) -> "System":
        """Make a system of integrals from anywhere.

        **Arguments:**

        - `overlap`, `core`: symmetric matrices `[n, n]`.
        - `repulsion`: integrals $(ij|kl)$ as `[n, n, n, n]`, as a matrix over pairs $i \\ge j$ packed row by row
            (fourfold symmetry), or with pairs of pairs packed once more (eightfold). If `fitted`, factors
            `[auxiliary, pairs]`.
        - `nuclear_energy`: the repulsion of the nuclei.
        - `electrons`: how many of each spin, or how many in all, as evenly as possible.
        - `fitted`: whether `repulsion` is a density fit.
        - `restricted`: whether both spins share their orbitals. By default if there are as many of each.
        - `guess`: a density of all electrons to begin with.
        - `max_gib`: how much memory the integrals may take on the device.

        **Returns:**

        The system.

        **Raises:**

        - `ValueError`: for single precision, arrays of the wrong shape, numbers that are not finite, a linearly
            dependent basis, numbers of electrons that make no sense, and integrals that are too large.
        """
        require_double()
        arrays = {"overlap": overlap, "core": core, "repulsion": repulsion, "nuclear_energy": nuclear_energy}
        if guess is not None:
            arrays["guess"] = guess
        arrays = {name: np.asarray(array, np.float64) for name, array in arrays.items()}
        for name, array in arrays.items():
            if not np.all(np.isfinite(array)):
                raise ValueError(f"`{name}` holds numbers that are not finite. Check the geometry and the integrals.")
        n = arrays["overlap"].shape[0] if arrays["overlap"].ndim else 0
        for name in ("overlap", "core", "guess"):
            if name in arrays and arrays[name].shape != (n, n):
                raise ValueError(f"`{name}` must be a matrix {[n, n]}, but its shape is {list(arrays[name].shape)}.")
            if name in arrays and not np.allclose(arrays[name], arrays[name].T, rtol=0, atol=1e-8):
                raise ValueError(f"`{name}` must be symmetric, but it is not.")
        if arrays["nuclear_energy"].shape:
            raise ValueError(f"`nuclear_energy` must be a number, but its shape is {arrays['nuclear_energy'].shape}.")
        check_overlap(arrays["overlap"])
        counts = count_electrons(electrons, n)
        restricted = counts[0] == counts[1] if restricted is None else restricted
        check_pairing(counts, restricted)
        check_size(n, arrays["repulsion"].shape[0] if fitted else None, max_gib * 2**30)
        return cls(
            overlap=jnp.asarray(arrays["overlap"]),
            core=jnp.asarray(arrays["core"]),
            interaction=interaction(arrays["repulsion"], n, fitted),
            nuclear_energy=jnp.asarray(arrays["nuclear_energy"]),
            guess=None if guess is None else jnp.asarray(arrays["guess"]),
            electrons=counts,
            restricted=restricted,
        )

    @classmethod
    def from_pyscf(
        cls,
        molecule: Any,
        *,
        basis: Any = "sto-3g",
        charge: int = 0,
        spin: int | None = None,
        unit: str = "angstrom",
        restricted: bool | None = None,
        density_fit: bool | str = False,
        guess: Literal["minao", "sad", "huckel"] | None = "minao",
        functional: AbstractFunctional | None = None,
        grid: int = 3,
        max_gib: float = 8.0,
    ) -> "System":
        """Make a system of a molecule, with integrals from PySCF (extra `quantum`).

        **Arguments:**

        - `molecule`: atoms and positions as PySCF takes them, such as `"O 0 0 0; H 0 0 0.96; H 0 0.93 -0.24"`; or a
            `pyscf.gto.Mole`, from which basis, charge and spin are taken.
        - `basis`: the name of a basis, or one for each element.
        - `charge`: the charge.
        - `spin`: the number of unpaired electrons. By default 0 or 1.
        - `unit`: of the positions: `"angstrom"` or `"bohr"`.
        - `restricted`: whether both spins share their orbitals. By default if all electrons are paired.
        - `density_fit`: whether to fit densities, or the auxiliary basis to do it with.
        - `guess`: the density to begin with: the occupied atomic orbitals of each atom in a minimal basis (`"minao"`),
            atoms that were solved in the given basis (`"sad"`), or a Hückel Hamiltonian of such (`"huckel"`).
        - `functional`: a density functional, such as [`metaopt.scf.PBE`][]; Hartree-Fock without.
        - `grid`: how fine the grid is that it is summed on, from 0 to 9, as PySCF counts.
        - `max_gib`: how much memory the integrals may take.

        **Returns:**

        The system.

        **Raises:**

        - `ModuleNotFoundError`: if PySCF is missing.
        - `ValueError`: for an unknown element or basis, coincident atoms, an impossible spin, an odd number of
            electrons in a restricted calculation, or integrals that are too large, and whatever `from_arrays` refuses.
        """
        require_double()
        found = _provider().molecule(
            molecule,
            basis=basis,
            charge=charge,
            spin=spin,
            unit=unit,
            fitted=density_fit,
            guess=guess,
            grid=None if functional is None else grid,
            limit=max_gib * 2**30,
            restricted=restricted,
        )
        system = cls.from_arrays(
            found.overlap,
            found.core,
            found.repulsion,
            found.nuclear_energy,
            found.electrons,
            fitted=found.fitted,
            restricted=restricted,
            guess=found.guess,
            max_gib=max_gib,
        )
        if found.positions is not None:
            geometry = Geometry(jnp.asarray(found.positions), found.elements, found.shells)
            system = dataclasses.replace(system, geometry=geometry)
        if functional is None or found.weights is None or found.orbitals is None:
            return system
        points = Grid(jnp.asarray(found.weights), jnp.asarray(found.orbitals))
        return dataclasses.replace(system, functional=functional, grid=points)

    @classmethod
    def geometries(
        cls,
        molecule: Any,
        positions: Any,
        *,
        basis: Any = "sto-3g",
        charge: int = 0,
        spin: int | None = None,
        unit: str = "angstrom",
        restricted: bool | None = None,
        max_gib: float = 8.0,
    ) -> "System":
        """Make systems of many geometries of one molecule, stacked, with integrals from PySCF (extra `quantum`).

        The molecule is read once, atoms are solved once for the guess, and integrals are unpacked on the device: this
        is several times faster than [`metaopt.scf.System.from_pyscf`][] for each and [`metaopt.scf.stack`][].

        **Arguments:**

        - `molecule`, `basis`, `charge`, `spin`, `unit`, `restricted`, `max_gib`: as those of
            [`metaopt.scf.System.from_pyscf`][], and `max_gib` for all together.
        - `positions`: where the atoms are in each geometry, `[geometries, atoms, 3]`, in `unit`.

        **Returns:**

        Systems with a leading axis, for `eqx.filter_vmap`.

        **Raises:**

        - `ModuleNotFoundError`: if PySCF is missing.
        - `ValueError`: for positions of another shape, and whatever [`metaopt.scf.System.from_pyscf`][] refuses.
        """
        require_double()
        at = np.asarray(positions, np.float64)
        if at.ndim != 3 or at.shape[-1] != 3 or not at.size:
            raise ValueError(f"`positions` must have shape [geometries, atoms, 3], but {list(at.shape)} was given.")
        found = _provider().geometries(
            molecule,
            at,
            basis=basis,
            charge=charge,
            spin=spin,
            unit=unit,
            restricted=restricted,
            limit=max_gib * 2**30,
        )
        for overlap in found.overlap:
            check_overlap(overlap)
        up, down = found.electrons

        # Each by itself, so that shapes are those of one system.
        def one(overlap: Array, core: Array, repulsion: AbstractInteraction, nuclear: Array, at: Array) -> "System":
            return cls(
                overlap=overlap,
                core=core,
                interaction=repulsion,
                nuclear_energy=nuclear,
                guess=jnp.asarray(found.guess),
                electrons=found.electrons,
                restricted=up == down if restricted is None else restricted,
                geometry=Geometry(at, found.elements, found.shells),
            )

        interactions = unpacked(jnp.asarray(found.repulsion), found.overlap.shape[-1])
        arrays = (jnp.asarray(x) for x in (found.overlap, found.core, found.nuclear_energy, found.positions))
        overlap, core, nuclear, at = arrays
        return jax.vmap(one)(overlap, core, interactions, nuclear, at)

    @property
    def functions(self) -> int:
        """The number of basis functions."""
        return self.overlap.shape[-1]

    @property
    def counts(self) -> tuple[int, ...]:
        """The numbers of occupied orbitals, of both spins together or one by one."""
        return self.electrons[:1] if self.restricted else self.electrons

    @property
    def weight(self) -> int:
        """The number of electrons in an occupied orbital."""
        return 2 if self.restricted else 1

    def response(self, density: Matrices, change: Matrices) -> Matrices:
        """How Fock matrices change with the density of each spin, to first order."""
        found = self._repulsion(change)
        if self.functional is None:
            return found
        potential = jax.grad(self._functional_energy)
        return found + jax.jvp(potential, (density,), (change,))[1] / self.weight

    def _repulsion(self, density: Matrices) -> Matrices:
        share = 1.0 if self.functional is None else self.functional.exact_exchange
        if self.restricted:
            return self.interaction.closed_shells(density[0], share)[None]
        repulsion = self.interaction.coulomb(jnp.sum(density, axis=0))[None]
        if share == 0:
            return jnp.broadcast_to(repulsion, density.shape)
        return repulsion - share * jax.vmap(self.interaction.exchange)(density)

    def _functional_energy(self, density: Matrices) -> Float[Array, ""]:
        assert self.functional is not None and self.grid is not None
        return self.grid.energy(self.functional, density)

    def fock(self, density: Matrices) -> tuple[Matrices, Float[Array, ""]]:
        """The Fock matrix of each spin of densities, and the energy."""
        core = self.core[None]
        fock = core + self._repulsion(density)
        energy = 0.5 * self.weight * jnp.sum(density * (core + fock)) + self.nuclear_energy
        if self.functional is None:
            return fock, energy
        extra, potential = jax.value_and_grad(self._functional_energy)(density)
        return fock + symmetric(potential) / self.weight, energy + extra

    def occupy(self, fock: Matrices) -> Matrices:
        """The densities of Fock matrices in an orthonormal basis: of the lowest orbitals, or with fractional
        occupations at the temperature."""
        if self.temperature is None:
            return occupy(fock, self.counts)
        return smear(fock, self.counts, self.temperature)

    def smeared(self, temperature: float | Float[Array, ""]) -> "System":
        """The same with electrons at a temperature, in hartree, so that orbitals near the highest occupied one are
        filled in part. The number of electrons of each spin is kept.

        **Raises:**

        - `ValueError`: if it is not positive.
        """
        POSITIVE.check(temperature=temperature)
        return dataclasses.replace(self, temperature=number(temperature).astype(self.overlap.dtype))

    def unrestricted(self) -> "System":
        """The same with orbitals of each spin of their own."""
        return dataclasses.replace(self, restricted=False)


def stack(systems: Sequence[System]) -> System:
    """Stack systems of one size on a leading axis, for `eqx.filter_vmap`.

    **Arguments:**

    - `systems`: at least one; all with as many functions and electrons, and of one kind.

    **Returns:**

    One system whose arrays have a leading axis.

    **Raises:**

    - `ValueError`: if they differ in size or kind.
    """
    if not systems:
        raise ValueError("`systems` must hold at least one system.")
    kinds = {(jtu.tree_structure(s), tuple(x.shape for x in jtu.tree_leaves(s))) for s in systems}
    if len(kinds) > 1:
        raise ValueError(
            "Systems that are stacked must have as many functions and electrons, and be of one kind, but "
            f"{len(kinds)} kinds were given. Stack those of each kind by themselves."
        )
    return jtu.tree_map(lambda *leaves: jnp.stack(leaves), *systems)


def _provider() -> Any:
    reason = unusable("pyscf")
    if reason is not None:
        raise ModuleNotFoundError(
            f"Integrals of molecules come from PySCF, which cannot be used: {reason}. Install the extra: "
            "`pip install metaopt[quantum]`; or make a `System` of arrays."
        )
    provider = find("pyscf")()
    if not isinstance(provider, AbstractIntegrals):
        raise TypeError(f"The backend `pyscf`, {type(provider)}, computes no integrals.")
    return provider
