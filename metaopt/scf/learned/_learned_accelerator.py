"""An accelerator whose moves a small network chooses."""

from typing import Any, NamedTuple

import equinox as eqx
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Float, Int, PRNGKeyArray, PyTree, Scalar

from ..._core.arrays._numbers import POSITIVE, check_counts
from ..accelerators._history import History, check_history, empty, products
from ..accelerators._norms import largest
from ..accelerators._surrogate import REACH, modelled
from ..accelerators._switching import Switching
from ..base import AbstractAccelerator, Matrices, Signal


FEATURES = 8
_MOVES = 6
_TINY = 1e-14


class LearnedState(NamedTuple):
    """States of the base and of the model, the Fock matrix that was diagonalized last, and what was seen before."""

    base: PyTree
    past: History
    last: Matrices
    norm: Float[Array, ""]
    energy: Float[Array, ""]
    age: Int[Array, ""]


class LearnedAccelerator(AbstractAccelerator[LearnedState]):
    r"""Mix a base accelerator with a solved model of the field, shift and damp, all by what a network says.

    $$\tilde F = (1 - d) \left(F_\text{base} + s \, (F_\text{model} - F_\text{base}) + \sigma (1 - P)\right)
          + d \, \tilde F_\text{last}, \qquad (s, a, b, r, \sigma, d) = N(z)$$

    The model is that of [`metaopt.scf.Surrogate`][] with $a$ and $b$ for its scales and $r$ for its reach. The features
    $z$ are invariant: the size of the residual and how it changed, the change of the energy and its sign, the gap
    between occupied and virtual orbitals, the age, and of the normalized Gram matrix of residuals the angle between the
    last two and the smallest eigenvalue.

    Untrained, $s$ is the `share` that it is made with and all else does nothing: with 0 it is exactly the base, with 1
    the model alone. It is trained over molecules by [`metaopt.meta_train`][] on a
    [`metaopt.scf.SelfConsistentFields`][] family, and wrapped in [`metaopt.scf.Guarded`][] to be safe.

    **Attributes:**

    - `base`: the accelerator that it begins as.
    - `network`: two layers, the last one zero before training.
    - `history`, `iterations`, `vectors`: those of the model.
    """

    base: AbstractAccelerator[Any]
    network: tuple[Float[Array, "hidden features"], Float[Array, " hidden"], Float[Array, "moves hidden"], Array]
    history: int = eqx.field(static=True)
    iterations: int = eqx.field(static=True)
    vectors: float = eqx.field(static=True)

    def __init__(
        self,
        base: AbstractAccelerator[Any] | None = None,
        *,
        hidden_size: int = 8,
        history: int = 8,
        iterations: int = 8,
        vectors: float = 1.0,
        share: float = 0.0,
        key: PRNGKeyArray | None = None,
    ):
        """**Arguments:**

        - `base`: the accelerator to begin as; by default [`metaopt.scf.Switching`][] from ADIIS to CDIIS.
        - `hidden_size`: of the network.
        - `history`, `iterations`, `vectors`: those of [`metaopt.scf.Surrogate`][].
        - `share`: $s$ before training, from 0 to 1.
        - `key`: draws the weights; the same weights each time if it is left out.

        **Raises:**

        - `ValueError`: for a size below 1, or another share.
        """
        POSITIVE.check(vectors=vectors)
        check_history(history, least=2)
        check_counts(hidden_size=hidden_size, iterations=iterations)
        if not 0 <= share <= 1:
            raise ValueError(f"`share` must be between 0 and 1, but {share} was given.")
        self.base = Switching() if base is None else base
        first = jr.normal(jr.key(0) if key is None else key, (hidden_size, FEATURES)) / FEATURES**0.5
        zeros = jnp.zeros
        self.network = (first, zeros(hidden_size), zeros((_MOVES, hidden_size)), zeros(_MOVES).at[0].set(share))
        self.history, self.iterations, self.vectors = history, iterations, vectors

    def init(self, params: Matrices, *, key: PRNGKeyArray | None = None) -> LearnedState:
        far = jnp.asarray(jnp.inf, params.dtype)
        past = empty((params, params, params), self.history)
        return LearnedState(self.base.init(params, key=key), past, params, far, far, jnp.zeros((), jnp.int32))

    def step(
        self, state: LearnedState, params: Matrices, grads: Signal, *, value: Scalar | None = None
    ) -> tuple[LearnedState, Matrices]:
        base_state, base = self.base.step(state.base, params, grads, value=value)
        past = state.past.add((params, grads.residual, grads.density))
        moves = self._moves(features(state, past, params, grads))
        share, damping = jnp.clip(moves[0], 0, 1), jnp.clip(moves[4], 0, 0.9)
        shift = 0.1 * jnp.maximum(moves[3], 0)
        coulomb, exchange, reach = jnp.exp(moves[1]), jnp.exp(moves[2]), REACH * jnp.exp(moves[5])
        model = modelled(past, grads, base, coulomb, exchange, reach, self.iterations, self.vectors)
        identity = jnp.eye(params.shape[-1], dtype=params.dtype)[None]
        proposed = base + share * (model - base) + shift * (identity - grads.density)
        proposed = proposed + jnp.where(state.age > 0, damping, 0) * (state.last - proposed)
        norm = largest(grads.residual)
        energy = grads.energy.astype(params.dtype)
        return LearnedState(base_state, past, proposed, norm, energy, state.age + 1), proposed

    def _moves(self, seen: Float[Array, " features"]) -> Float[Array, " moves"]:
        first, bias, last, offset = (x.astype(seen.dtype) for x in self.network)
        return last @ jnp.tanh(first @ seen + bias) + offset


def features(state: LearnedState, past: History, fock: Matrices, grads: Signal) -> Float[Array, " features"]:
    """What the network sees, of about unit size."""
    residuals = past.entries[1]
    size = largest(grads.residual)
    began = state.age > 0
    change = jnp.where(began, grads.energy - state.energy, 0)
    gram = products(residuals, residuals)
    lengths = jnp.sqrt(jnp.maximum(jnp.diagonal(gram), _TINY**2))
    normal = jnp.where(past.valid[:, None] & past.valid[None], gram / lengths[:, None] / lengths[None], 0)
    normal = normal + jnp.diag(jnp.where(past.valid, 0.0, 1.0))
    before = (past.count - 2) % past.size
    turn = jnp.where(began, normal[past.newest, before], 0)
    energies = jnp.linalg.eigvalsh(fock)
    counts: Any = grads.operator.system.counts
    gaps = [e[k] - e[k - 1] for e, k in zip(energies, counts, strict=True) if 0 < k < fock.shape[-1]]
    gap = jnp.min(jnp.stack(gaps)) if gaps else jnp.ones((), fock.dtype)
    ratio = jnp.where(began, jnp.log10((size + _TINY) / (state.norm + _TINY)), 0)
    return jnp.stack(
        [
            0.5 * jnp.log10(size + _TINY) + 1,
            jnp.clip(ratio, -2, 2),
            0.25 * jnp.log10(jnp.abs(change) + _TINY) + 1,
            jnp.sign(change),
            gap,
            jnp.tanh(0.1 * state.age.astype(fock.dtype)),
            turn,
            0.25 * jnp.log10(jnp.maximum(jnp.linalg.eigvalsh(normal)[0], _TINY)) + 1,
        ]
    )
