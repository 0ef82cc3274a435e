"""The backend of molecular integrals."""

import importlib.util
from collections.abc import Sequence
from typing import Any, TypeVar

import equinox as eqx
import numpy as np
from jaxtyping import Array, Float

from metaopt.backend import XLA, AbstractBackend, Network, Pointwise, Tensor, Updated
from metaopt.scf import AbstractIntegrals, Geometries, Molecule


T = TypeVar("T")


class PySCF(AbstractIntegrals):
    """Molecular integrals and densities to begin with, computed on the host by PySCF. Kernels are the reference's.

    ??? cite "Reference"

        ```bibtex
        @article{sun2020recent,
          title={Recent developments in the {PySCF} program package},
          author={Sun, Qiming and Zhang, Xing and Banerjee, Samragni and others},
          journal={The Journal of Chemical Physics}, volume={153}, pages={024109}, year={2020}
        }
        ```
    """

    reference: AbstractBackend = eqx.field(default_factory=XLA)

    @staticmethod
    def unusable() -> str | None:
        return None if importlib.util.find_spec("pyscf") else "PySCF is not installed"

    def molecule(
        self,
        atoms: Any,
        *,
        basis: Any,
        charge: int,
        spin: int | None,
        unit: str,
        restricted: bool | None,
        fitted: bool | str,
        guess: str | None,
        grid: int | None,
        limit: float,
    ) -> Molecule:
        # Imported here, so that the backend can be listed without PySCF.
        from ._molecule import molecule

        return molecule(atoms, basis, charge, spin, unit, restricted, fitted, guess, grid, limit)

    def geometries(
        self,
        atoms: Any,
        positions: Float[np.ndarray, "geometries atoms 3"],
        *,
        basis: Any,
        charge: int,
        spin: int | None,
        unit: str,
        restricted: bool | None,
        limit: float,
    ) -> Geometries:
        from ._molecule import geometries

        return geometries(atoms, positions, basis, charge, spin, unit, restricted, limit)

    def network_update(
        self, pointwise: Pointwise, network: Network, context: Float[Array, " context"], tensors: Sequence[Tensor]
    ) -> list[Updated]:
        return self.reference.network_update(pointwise, network, context, tensors)
