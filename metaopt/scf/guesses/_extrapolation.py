"""Guesses along a path of geometries, from the solutions before."""

from typing import Any

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float

from ..._core.arrays._numbers import number
from ..accelerators._history import History, check_history, combined, empty
from ..base import AbstractGuess, Matrices
from ..drivers._results import Solution
from ..learned._learned_guess import described
from ..systems._checks import require_double
from ..systems._geometry import centered, fitting_turn, turning
from ..systems._operator import loewdin
from ..systems._orbitals import semicanonical
from ..systems._system import System
from ._grassmann import coordinates, exponential, logarithm, span


class Extrapolation(AbstractGuess):
    r"""Extrapolate the occupied orbitals of the last few geometries of a path, such as of molecular dynamics.

    Spans of orbitals are points of a Grassmann manifold, and are combined as tangents at the first one,

    $$P = \exp_{P_0}\Big(\sum_i c_i \log_{P_0} P_i\Big), \qquad
      c = \arg\min_{\sum_i c_i = 1} \Big\lVert r - \sum_i c_i r_i \Big\rVert^2 + \lambda \lVert c \rVert^2$$

    with $r_i$ the positions in the geometries before, turned onto the first one, and all orbitals in the symmetrically
    orthonormalized basis. Wherever a combination of the last geometries is close to a new one, so is the density.

    ```py
    path = scf.Extrapolation.start(system, scf.solve(system))
    for system in more:
        solution = scf.solve(system, guess=path)
        path = path.add(system, solution)
    ```

    **Attributes:**

    - `reference`, `orbitals`: the positions and the orbitals of the first geometry.
    - `past`: positions and tangents of the last ones.
    - `ridge`: $\lambda$, over the mean of the squared distances between geometries.

    ??? cite "Reference"

        ```bibtex
        @article{polack2021grassmann,
          title={{Grassmann} extrapolation of density matrices for {Born--Oppenheimer} molecular dynamics},
          author={Polack, {\'E}tienne and Dusson, Genevi{\`e}ve and Stamm, Benjamin and Lipparini, Filippo},
          journal={Journal of Chemical Theory and Computation}, volume={17}, pages={6965--6973}, year={2021}
        }
        ```
    """

    reference: Float[Array, "atoms 3"]
    orbitals: Matrices
    past: History
    ridge: Float[Array, ""] = eqx.field(converter=number)

    @classmethod
    def start(
        cls, system: System, solution: Solution, *, history: int = 6, ridge: float | Float[Array, ""] = 1e-5
    ) -> "Extrapolation":
        """Begin with one solved geometry.

        **Arguments:**

        - `system`, `solution`: the geometry.
        - `history`: how many geometries are remembered, at least 2.
        - `ridge`: as above.

        **Raises:**

        - `ValueError`: in single precision, without a geometry, or for a shorter history.
        """
        require_double()
        check_history(history, least=2)
        operator, root, _ = loewdin(system)
        density = root @ solution.density @ root
        orbitals, _ = semicanonical(operator.into(solution.fock), density, system.counts)
        at = centered(described(system).positions)
        size = sum(k * (system.functions - k) for k in system.counts)
        past = empty((at.ravel(), jnp.zeros(size, at.dtype)), history)
        return cls(at, orbitals, past, ridge).add(system, solution)

    def add(self, system: System, solution: Solution) -> "Extrapolation":
        """Remember another solved geometry in the place of the oldest."""
        at, matrix = self._posed(system)
        _, root, _ = loewdin(system)
        density = matrix @ root @ solution.density @ root @ matrix.T
        found = [
            logarithm(coordinates(d, c[:, :k], c[:, k:])).ravel()
            for d, c, k in zip(density, self.orbitals, system.counts, strict=True)
        ]
        past = self.past.add((at.ravel(), jnp.concatenate(found)))
        return Extrapolation(self.reference, self.orbitals, past, self.ridge)

    def projectors(self, operator: Any, root: Float[Array, "n n"]) -> Matrices:
        system = operator.system
        at, matrix = self._posed(system)
        places, tangents = self.past.entries
        newest = self.past.newest
        valid = self.past.valid[:, None]
        steps = jnp.where(valid, places - places[newest][None], 0)
        gram = steps @ steps.T
        scale = jnp.maximum(jnp.trace(gram) / gram.shape[0], jnp.finfo(gram.dtype).tiny)
        ridge = self.ridge.astype(gram.dtype) * jnp.eye(gram.shape[0], dtype=gram.dtype)
        weights = jnp.linalg.solve(gram / scale + ridge, steps @ (at.ravel() - places[newest]) / scale)
        tangent = tangents[newest] + combined(weights, jnp.where(valid, tangents - tangents[newest][None], 0))
        found, start = [], 0
        for c, k in zip(self.orbitals, system.counts, strict=True):
            shape = (c.shape[0] - k, k)
            part = tangent[start : start + shape[0] * k].reshape(shape)
            start += shape[0] * k
            found.append(span(exponential(part), c[:, :k], c[:, k:]))
        return matrix.T @ jnp.stack(found) @ matrix

    def _posed(self, system: System) -> tuple[Float[Array, "atoms 3"], Float[Array, "n n"]]:
        geometry = described(system)
        turn = fitting_turn(geometry.positions, self.reference)
        return centered(geometry.positions) @ turn.T, turning(geometry.shells, turn)
