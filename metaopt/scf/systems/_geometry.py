"""Where atoms are and which functions they carry, and what turning a molecule does to its matrices."""

import math
from collections.abc import Sequence

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float


class Geometry(eqx.Module):
    """What a learned guess knows of a system beyond its integrals.

    - `positions`: of the atoms, in bohr.
    - `elements`: their symbols.
    - `shells`: of each shell of spherical functions, in the order of the basis, its atom and its angular momentum.
        Functions of angular momentum 1 are in the order x, y, z; others from $m = -l$ to $l$.
    """

    positions: Float[Array, "atoms 3"]
    elements: tuple[str, ...] = eqx.field(static=True)
    shells: tuple[tuple[int, int], ...] = eqx.field(static=True)

    @property
    def functions(self) -> int:
        return sum(2 * degree + 1 for _, degree in self.shells)

    @property
    def owners(self) -> np.ndarray:
        """The atom of each function."""
        return np.concatenate([np.full(2 * degree + 1, atom) for atom, degree in self.shells])


def harmonics(degree: int, points: Float[Array, "points 3"]) -> Float[Array, "points functions"]:
    """Real solid harmonics, all with the same norm on the sphere, in the order of [`metaopt.scf.Geometry`][]."""
    if degree == 1:
        return points
    x, y, z = points[:, 0], points[:, 1], points[:, 2]
    square = x * x + y * y + z * z
    cosines, sines = [jnp.ones_like(x)], [jnp.zeros_like(x)]
    for _ in range(degree):
        c, s = cosines[-1], sines[-1]
        cosines, sines = [*cosines, c * x - s * y], [*sines, s * x + c * y]
    found = {}
    for order in range(degree + 1):
        below, this = jnp.zeros_like(x), jnp.full_like(x, math.prod(range(1, 2 * order, 2)))
        for k in range(order + 1, degree + 1):
            below, this = this, ((2 * k - 1) * z * this - (k + order - 1) * square * below) / (k - order)
        norm = math.sqrt((2 if order else 1) * math.factorial(degree - order) / math.factorial(degree + order))
        found[order], found[-order] = norm * this * cosines[order], norm * this * (sines if order else cosines)[order]
    return jnp.stack([found[order] for order in range(-degree, degree + 1)], axis=1)


# Enough directions to tell all harmonics of g functions apart.
_DIRECTIONS = np.random.default_rng(0).normal(size=(32, 3))


def representation(degree: int, turn: Float[Array, "3 3"]) -> Float[Array, "functions functions"]:
    """How the functions of a shell turn: the matrix $D$ with $Y(Q r) = D \\, Y(r)$ for an orthogonal $Q$."""
    at = jnp.asarray(_DIRECTIONS, turn.dtype)
    # The directions are fixed, so what they have to be divided by is a constant.
    inverse = jnp.linalg.pinv(harmonics(degree, at))
    return (inverse @ harmonics(degree, at @ turn.T)).T


def turning(
    shells: Sequence[tuple[int, int]], turn: Float[Array, "3 3"], permutation: Sequence[int] | None = None
) -> Float[Array, "n n"]:
    """The matrix $T$ with which matrices of a molecule become $T M T^\\top$ when the molecule is turned by $Q$, and the
    place of atom `i` is taken by atom `permutation[i]`."""
    degrees = sorted({degree for _, degree in shells})
    parts = {degree: representation(degree, turn) for degree in degrees}
    starts = np.cumsum([0, *(2 * degree + 1 for _, degree in shells)])
    own: dict[int, list[int]] = {}
    for index, (atom, _) in enumerate(shells):
        own.setdefault(atom, []).append(index)
    found = jnp.zeros((int(starts[-1]),) * 2, turn.dtype)
    for atom, indices in own.items():
        targets = own[atom if permutation is None else permutation[atom]]
        for source, target in zip(indices, targets, strict=True):
            degree = shells[source][1]
            rows = slice(int(starts[target]), int(starts[target]) + 2 * degree + 1)
            columns = slice(int(starts[source]), int(starts[source]) + 2 * degree + 1)
            found = found.at[rows, columns].set(parts[degree])
    return found


def centered(positions: Float[Array, "*batch atoms 3"]) -> Float[Array, "*batch atoms 3"]:
    return positions - jnp.mean(positions, axis=-2, keepdims=True)


def fitting_turn(positions: Float[Array, "atoms 3"], onto: Float[Array, "atoms 3"]) -> Float[Array, "3 3"]:
    """The proper rotation $Q$ for which $Q r_i$ is closest to another molecule, both about their centers.

    ??? cite "Reference"

        ```bibtex
        @article{kabsch1976solution,
          title={A solution for the best rotation to relate two sets of vectors},
          author={Kabsch, Wolfgang},
          journal={Acta Crystallographica Section A}, volume={32}, pages={922--923}, year={1976}
        }
        ```
    """
    left, _, right = jnp.linalg.svd(centered(onto).T @ centered(positions))
    flip = jnp.sign(jnp.linalg.det(left @ right))
    one = jnp.ones_like(flip)
    return (left * jnp.stack([one, one, flip])[None]) @ right


def symmetries(
    elements: Sequence[str], positions: Float[np.ndarray, "atoms 3"], tolerance: float, most: int = 48
) -> list[tuple[tuple[int, ...], Float[np.ndarray, "3 3"]]]:
    """Exchanges of equal atoms with orthogonal maps that bring a molecule onto itself, to within a tolerance.

    The first one is the identity. At most `most` are looked for.
    """
    at = positions - positions.mean(axis=0)
    apart = np.linalg.norm(at[:, None] - at[None], axis=-1)
    found: list[tuple[tuple[int, ...], np.ndarray]] = [(tuple(range(len(at))), np.eye(3))]

    def extend(chosen: tuple[int, ...]) -> None:
        k = len(chosen)
        if len(found) >= most:
            return
        if k < len(at):
            for j in set(range(len(at))) - set(chosen):
                same = elements[j] == elements[k]
                if same and all(abs(apart[k, i] - apart[j, chosen[i]]) < 2 * tolerance for i in range(k)):
                    extend((*chosen, j))
            return
        left, _, right = np.linalg.svd(at[list(chosen)].T @ at)
        for sign in (1.0, -1.0):
            turn = (left * np.array([1.0, 1.0, sign * np.sign(np.linalg.det(left @ right))])) @ right
            identity = np.allclose(turn, np.eye(3), atol=1e-6) and chosen == found[0][0]
            if np.abs(at @ turn.T - at[list(chosen)]).max() < tolerance and not identity:
                found.append((chosen, turn))

    extend(())
    return found
