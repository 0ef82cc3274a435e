"""Guesses that are learned from other geometries of the same molecule."""

import itertools as it
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from ..._core.arrays._kernels import correlations
from ..._core.arrays._numbers import check_counts, number
from ..base import AbstractGuess, Matrices
from ..drivers._results import Solution
from ..guesses._guess import initial, natural
from ..systems._checks import require_double
from ..systems._geometry import Geometry, centered, fitting_turn, symmetries, turning
from ..systems._operator import loewdin
from ..systems._system import System


# In units of how far coordinates stray among the examples, and of the variance.
_LENGTHS = (5.0, 10.0, 20.0, 40.0)
_RIDGES = (1e-12, 1e-10, 1e-8, 1e-6)
_FOLDS = 4
# In bohr: how far a molecule may be from symmetric.
_TOLERANCE = 0.1


class LearnedGuess(AbstractGuess):
    r"""Predict the density of a geometry from those of other geometries of the same molecule.

    Each block $P_{ab}$ between two atoms of the density in the symmetrically orthonormalized basis is predicted by
    kernel ridge regression,

    $$P_{ab} = \bar P_{ab} + \sum_m k_{ab}(r, r_m) \, \alpha_{m, ab}, \qquad
      k_{ab}(r, r') = \exp\Big(-\frac{1}{2 \ell_{ab}^2} \sum_c e^{-2 d_c / \rho}
        \lVert \Delta_c - \Delta'_c \rVert^2\Big)$$

    with $\Delta_c$ the place of atom $c$ from the middle of $a$ and $b$, and $d_c$ its distance from the nearer of them
    in the reference: what is far from two atoms matters little to what is between them. Length scales and ridges are
    those that predict examples best that were left out. The orbitals that are filled first are the natural ones that
    hold most electrons.

    Geometries are turned onto a reference, and their matrices with them by the representations of rotations on the
    shells of the basis. If the reference is symmetric, such as planar, each example is also seen reflected, turned and
    with equal atoms exchanged.

    Where the variance of a Gaussian process with such a kernel is larger than `limit`, the guess is the classical one.

    **Attributes:**

    - `reference`: where the atoms are in the middle of the family.
    - `examples`: where they are in what was solved, turned onto the reference.
    - `mean`, `coefficients`: $\bar P$ and $\alpha$.
    - `reach`: $e^{-d_c / \rho} / \ell_{ab}$ for each pair of atoms.
    - `whitening`: what the variance is computed with.
    - `limit`: the largest variance that is trusted.

    ??? cite "Reference"

        ```bibtex
        @article{shao2023machine,
          title={Machine learning electronic structure methods based on the one-electron reduced density matrix},
          author={Shao, Xuecheng and Paetow, Lukas and Tuckerman, Mark E. and Pavanello, Michele},
          journal={Nature Communications}, volume={14}, pages={6281}, year={2023}
        }
        ```
    """

    reference: Float[Array, "atoms 3"]
    examples: Float[Array, "examples atoms 3"]
    mean: Matrices
    coefficients: Float[Array, "examples spin n n"]
    reach: Float[Array, "pairs atoms"]
    whitening: Float[Array, "examples examples"]
    limit: Float[Array, ""] = eqx.field(converter=number)

    @classmethod
    def fit(
        cls,
        systems: System,
        solutions: Solution,
        *,
        most: int = 300,
        decay: float = 3.0,
        trust: float = 100.0,
        seed: int = 0,
    ) -> "LearnedGuess":
        r"""Learn from solved geometries.

        **Arguments:**

        - `systems`, `solutions`: of one molecule, stacked on a leading axis, at least 8.
        - `most`: how many examples are made of them at most, images under symmetries included.
        - `decay`: $\rho$, in bohr.
        - `trust`: how many times larger the variance may be than the largest one among examples that were left out.
        - `seed`: which of the symmetric images are taken, if there are too many.

        **Raises:**

        - `ValueError`: in single precision, without a geometry, or with too few examples.
        """
        require_double()
        check_counts(most=most)
        geometry = described(systems)
        count = geometry.positions.shape[0] if geometry.positions.ndim == 3 else 0
        if count < 2 * _FOLDS:
            raise ValueError(f"At least {2 * _FOLDS} solved geometries were wanted, but {count} were given.")
        kind = (geometry.elements, geometry.shells)
        densities = eqx.filter_jit(eqx.filter_vmap(_orthonormal))(systems, solutions.density)
        reference = _middle(geometry.positions)
        images = symmetries(kind[0], np.asarray(reference), _TOLERANCE)
        chosen = _choose(count, len(images), max(most, count), seed)

        @jax.jit
        def pose(at: Array, density: Array, turn: Array, order: Array, back: Array) -> tuple[Array, Array]:
            moved = jnp.zeros_like(at).at[order].set(centered(at) @ turn.T)
            again = fitting_turn(moved, reference)
            matrix = turning(kind[1], again)
            return moved @ again.T, matrix @ back @ density @ back.T @ matrix.T

        exchanges = [np.asarray(turning(kind[1], jnp.asarray(turn), order)) for order, turn in images]
        posed = [
            pose(geometry.positions[i], densities[i], images[g][1], np.array(images[g][0]), exchanges[g])
            for i, g in chosen
        ]
        at = np.stack([np.asarray(places) for places, _ in posed])
        targets = np.stack([np.asarray(density) for _, density in posed])
        groups = np.array([i for i, _ in chosen])
        reach, coefficients = _regress(at, targets, groups, np.asarray(reference), geometry.owners, decay)
        kernel = np.asarray(correlations(*[_overall(jnp.asarray(at), jnp.asarray(reach))] * 2))
        return cls(
            reference=reference,
            examples=jnp.asarray(at),
            mean=jnp.asarray(targets.mean(axis=0)),
            coefficients=jnp.asarray(coefficients),
            reach=jnp.asarray(reach),
            whitening=jnp.asarray(_whitening(kernel)),
            limit=trust * _largest_variance(kernel, groups),
        )

    def posed(self, system: System) -> tuple[Float[Array, "atoms 3"], Float[Array, "n n"]]:
        """The positions of a system, turned onto the reference, and how its matrices turn."""
        geometry = described(system)
        turn = fitting_turn(geometry.positions, self.reference)
        return centered(geometry.positions) @ turn.T, turning(geometry.shells, turn)

    def variance(self, system: System) -> Float[Array, ""]:
        """How little examples say of a system, from 0 to 1."""
        at, _ = self.posed(system)
        toward = correlations(_overall(self.examples, self.reach), _overall(at[None], self.reach))[:, 0]
        return jnp.clip(1 - jnp.sum(jnp.square(self.whitening @ toward)), 0, 1)

    def predict(self, system: System) -> Matrices:
        """What examples say of the density in the symmetrically orthonormalized basis."""
        at, matrix = self.posed(system)
        atoms = self.reference.shape[0]
        pairs = _pairs(atoms)
        features = jax.vmap(_features, in_axes=(0, None, 0))
        kernels = jax.vmap(correlations)(
            features(pairs, self.examples, self.reach), features(pairs, at[None], self.reach)
        )[:, :, 0]
        place = np.zeros((atoms, atoms), np.int32)
        place[pairs[:, 0], pairs[:, 1]] = place[pairs[:, 1], pairs[:, 0]] = np.arange(len(pairs))
        owners = described(system).owners
        weights = kernels[place[owners[:, None], owners[None]]]
        found = self.mean + jnp.einsum("ijm,msij->sij", weights, self.coefficients)
        return matrix.T @ found @ matrix

    def projectors(self, operator: Any, root: Float[Array, "n n"]) -> Matrices:
        system = operator.system
        learned = natural(self.predict(system), system.counts)
        return jnp.where(self.variance(system) <= self.limit, learned, initial(operator, root, None))


def described(system: System) -> Geometry:
    """The geometry of a system.

    **Raises:**

    - `ValueError`: if it has none.
    """
    if system.geometry is None:
        raise ValueError(
            "What is learned of a family of geometries needs to know the `geometry` of a system. Make the system by "
            "`System.from_pyscf` with spherical functions, or give it a `metaopt.scf.Geometry`."
        )
    return system.geometry


def _orthonormal(system: System, density: Matrices) -> Matrices:
    _, root, _ = loewdin(system)
    return root @ density @ root


def _middle(positions: Float[Array, "count atoms 3"]) -> Float[Array, "atoms 3"]:
    """The mean of geometries that are turned onto each other."""
    middle = centered(positions[0])
    for _ in range(3):
        middle = jnp.mean(jax.vmap(lambda at: centered(at) @ fitting_turn(at, middle).T)(positions), axis=0)
    return middle


def _choose(count: int, images: int, most: int, seed: int) -> list[tuple[int, int]]:
    """Which images of which geometries are examples; all geometries are, as they are."""
    others = [(i, g) for g in range(1, images) for i in range(count)]
    order = np.random.default_rng(seed).permutation(len(others))[: most - count]
    return [(i, 0) for i in range(count)] + [others[k] for k in sorted(order)]


def _pairs(atoms: int) -> np.ndarray:
    return np.array([(a, b) for a, b in it.product(range(atoms), repeat=2) if a >= b])


def _features(pair: Any, at: Float[Array, "m atoms 3"], reach: Float[Array, " atoms"]) -> Float[Array, "m features"]:
    middle = 0.5 * (at[:, pair[0]] + at[:, pair[1]])
    return ((at - middle[:, None]) * reach[None, :, None]).reshape(at.shape[0], -1)


def _overall(at: Float[Array, "m atoms 3"], reach: Float[Array, "pairs atoms"]) -> Float[Array, "m features"]:
    """Features for the molecule as a whole: each atom counts as much as it does to the blocks that it is in."""
    return (at * jnp.max(reach, axis=0)[None, :, None]).reshape(at.shape[0], -1)


def _regress(
    at: np.ndarray, targets: np.ndarray, groups: np.ndarray, reference: np.ndarray, owners: np.ndarray, decay: float
) -> tuple[np.ndarray, np.ndarray]:
    """The reach and the coefficients of all pairs of atoms, each with what predicts left out examples best."""
    apart = np.linalg.norm(reference[:, None] - reference[None], axis=-1)
    stray = float(np.sqrt(np.mean(np.square(at - reference[None]))))
    coefficients = np.zeros_like(targets)
    deviations = targets - targets.mean(axis=0)
    reaches = []
    for a, b in _pairs(len(reference)):
        near = np.exp(-np.minimum(apart[a], apart[b]) / decay)
        rows, columns = np.flatnonzero(owners == a), np.flatnonzero(owners == b)
        block = deviations[:, :, rows[:, None], columns[None]]
        flat = block.reshape(len(at), -1)
        best: tuple[float, np.ndarray, np.ndarray] | None = None
        for length in _LENGTHS:
            reach = near / (length * stray)
            z = np.asarray(_features((a, b), jnp.asarray(at), jnp.asarray(reach)))
            kernel = np.asarray(correlations(jnp.asarray(z), jnp.asarray(z)))
            for ridge in _RIDGES:
                matrix = kernel + ridge * np.eye(len(at))
                error = _left_out(matrix, flat, groups)
                if best is None or error < best[0]:
                    best = error, reach, matrix
        assert best is not None
        reaches.append(best[1])
        found = np.linalg.solve(best[2], flat).reshape(block.shape)
        coefficients[:, :, rows[:, None], columns[None]] = found
        coefficients[:, :, columns[:, None], rows[None]] = found.swapaxes(-1, -2)
    return np.stack(reaches), coefficients


def _left_out(matrix: np.ndarray, targets: np.ndarray, groups: np.ndarray) -> float:
    """The squared error of predictions for the examples of each fold from those of the others."""
    # By the block of the inverse that belongs to what is left out, so that one inverse serves all folds.
    inverse = np.linalg.inv(matrix)
    weights = inverse @ targets
    error = 0.0
    for fold in range(_FOLDS):
        out = np.flatnonzero(groups % _FOLDS == fold)
        error += float(np.sum(np.linalg.solve(inverse[np.ix_(out, out)], weights[out]) ** 2))
    return error


# Of the kernel that variances are computed with.
_JITTER = 1e-8


def _whitening(kernel: np.ndarray) -> np.ndarray:
    return np.linalg.inv(np.linalg.cholesky(kernel + _JITTER * np.eye(len(kernel))))


def _largest_variance(kernel: np.ndarray, groups: np.ndarray) -> float:
    """Of the examples of each fold, if only the others were known."""
    inverse = np.linalg.inv(kernel + _JITTER * np.eye(len(kernel)))
    folds = [np.flatnonzero(groups % _FOLDS == fold) for fold in range(_FOLDS)]
    return max(float(np.max(np.diagonal(np.linalg.inv(inverse[np.ix_(out, out)])))) for out in folds)
