"""How much processor time a loop over geometries takes in PySCF, integrals and guess apart from the iterations.

Runs as a process of its own, whose environment limits it to one thread, and prints one JSON object. Its argument is a
JSON object: symbols, positions in Angstrom, and the basis.
"""

import json
import sys
import time

import pyscf
from pyscf import gto, lib, scf


def main() -> None:
    case = json.loads(sys.argv[1])
    lib.num_threads(1)
    integrals = solving = 0.0
    energies = []
    for at in [case["positions"][0], *case["positions"]]:
        begun = time.process_time()
        molecule = gto.M(atom=list(zip(case["symbols"], at, strict=True)), basis=case["basis"], verbose=0)
        field = scf.RHF(molecule)
        field.set(conv_tol=1e-9, conv_tol_grad=1e-5, diis_start_cycle=1)
        field._eri = molecule.intor("int2e", aosym="s8")
        guess = field.get_init_guess()
        middle = time.process_time()
        energies.append(float(field.kernel(guess)))
        integrals, solving = integrals + middle - begun, solving + time.process_time() - middle
        if len(energies) == 1:
            # What is loaded when it is first used does not count.
            integrals = solving = 0.0
    result = {"integrals": integrals, "solving": solving, "energies": energies[1:], "version": pyscf.__version__}
    print(json.dumps(result))


main()
