"""Self-consistent fields as tasks, for accelerators to be trained on."""

from typing import Any

import equinox as eqx
import jax.numpy as jnp
import jax.random as jr
import jax.tree_util as jtu
from jaxtyping import Array, Float, PRNGKeyArray, PyTree, Scalar

from ..._core import AbstractAlgorithm, AbstractTask, AbstractTaskFamily
from ..base import AbstractGuess, Matrices, Signal
from ..drivers._solve import look, signal
from ..guesses._guess import initial
from ._checks import require_double
from ._operator import loewdin
from ._system import System


class Seen(eqx.Module):
    """The signal of a [`metaopt.scf.SelfConsistentField`][]: the Fock matrices of a density, and what they say."""

    fock: Matrices
    signal: Signal


class SelfConsistentField(AbstractTask[Matrices, Seen]):
    r"""The Fock builds that a calculation still needs, as a smooth function of the Fock matrix to diagonalize next.

    The value after a Fock build that left the gradient $g$, with the tolerance $\epsilon$, is

    $$\frac{g}{g + \epsilon} + \frac{1}{10} \log_{10}\left(1 + \frac{g}{\epsilon}\right)$$

    Its first part is one before convergence and zero after, so that a sum over cycles counts builds; the second part
    says which way is better long before.

    **Attributes:**

    - `system`: what to solve.
    - `guess`: where to begin, as in [`metaopt.scf.solve`][].
    - `tolerance`: $\epsilon$.
    """

    system: System
    guess: AbstractGuess | str | None = None
    tolerance: float = eqx.field(static=True, default=1e-5)

    def init(self, *, key: PRNGKeyArray) -> Matrices:
        """Fock matrices whose lowest orbitals are those of the guess; of open shells, those of the guess's density,
        which is no density of orbitals."""
        del key
        require_double()
        operator, root, _ = loewdin(self.system)
        start = initial(operator, root, self.guess)
        return -start if self.system.restricted else look(operator, start).fock

    def evaluate(self, params: Matrices, *, key: PRNGKeyArray) -> tuple[Float[Array, ""], Seen]:
        del key
        operator, _, _ = loewdin(self.system)
        point = look(operator, self.system.occupy(params))
        ratio = point.gradient_norm / self.tolerance
        return ratio / (1 + ratio) + 0.1 * jnp.log10(1 + ratio), Seen(point.fock, signal(operator, point))

    def measure(self, params: Matrices, *, key: PRNGKeyArray) -> Float[Array, ""]:
        return self.evaluate(params, key=key)[0]


class SelfConsistentFields(AbstractTaskFamily):
    """Systems of one size, drawn at random.

    **Attributes:**

    - `systems`: those of [`metaopt.scf.stack`][].
    - `guess`: where to begin.
    """

    systems: System
    guess: AbstractGuess | str | None = None

    def sample(self, *, key: PRNGKeyArray) -> SelfConsistentField:
        index = jr.randint(key, (), 0, self.systems.overlap.shape[0])
        return SelfConsistentField(jtu.tree_map(lambda x: x[index], self.systems), self.guess)


class Accelerated(AbstractAlgorithm[PyTree, Matrices, Seen]):
    """An accelerator as what a task is solved with: its parameters are the Fock matrices to diagonalize next.

    **Attributes:**

    - `accelerator`: such as a [`metaopt.scf.LearnedAccelerator`][].
    """

    accelerator: AbstractAlgorithm[Any, Any, Any]

    def init(self, params: Matrices, *, key: PRNGKeyArray | None = None) -> PyTree:
        return self.accelerator.init(params, key=key)

    def step(
        self, state: PyTree, params: Matrices, grads: Seen, *, value: Scalar | None = None
    ) -> tuple[PyTree, Matrices]:
        del params, value
        return self.accelerator.step(state, grads.fock, grads.signal, value=grads.signal.energy)
