"""The error of the energy over Fock builds, by accelerator, for a molecule with a transition metal."""

import jax
import numpy as np
from _style import axes, save
from pyscf import gto, scf as pyscf_scf

from metaopt import scf


ATOMS = "Ti 0 0 0; O 0 0 1.62"
CYCLES = 20

jax.config.update("jax_enable_x64", True)
system = scf.System.from_pyscf(ATOMS, basis="def2-svp")
exact = float(scf.solve(system, energy_tolerance=1e-12, gradient_tolerance=1e-8).energy)


def pyscf_energies():
    """What PySCF's own CDIIS sees at each of its Fock builds."""
    mean_field = pyscf_scf.RHF(gto.M(atom=ATOMS, basis="def2-svp", verbose=0))
    seen = []
    mean_field.callback = lambda names: seen.append(names["e_tot"])
    mean_field.conv_tol, mean_field.max_cycle = 1e-11, CYCLES
    mean_field.kernel()
    return np.arange(2, len(seen) + 2), np.asarray(seen)


figure, plot = axes(width=8.0)
for name, rule in {
    "Roothaan, none": scf.Roothaan(),
    "CDIIS": scf.CDIIS(),
    "ADIIS, then CDIIS (default)": scf.Switching(),
    "Surrogate": scf.Surrogate(),
}.items():
    found = scf.unroll(system, rule, cycles=CYCLES)
    plot.plot(found.fock_builds, np.abs(found.energies - exact) + 1e-12, marker=".", label=name)
builds, energies = pyscf_energies()
plot.plot(builds, np.abs(energies - exact) + 1e-12, "--", color="#808080", label="PySCF's CDIIS")
plot.set(xlim=(0, 20), ylim=(1e-10, 1e3), yscale="log", xlabel="Fock builds", ylabel="error of the energy / hartree")
plot.set_xticks(range(0, CYCLES + 1, 5))
plot.set_title("TiO, RHF, def2-SVP")
figure.legend(loc="outside right upper")
save(figure, "scf_convergence")
