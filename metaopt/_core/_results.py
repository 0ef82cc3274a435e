"""How drivers end."""

from typing import Generic, TypeVar

import equinox as eqx
from jaxtyping import Array, Float, Int


P = TypeVar("P")


class RESULTS(eqx.Enumeration):
    """How a driver ended, each with a sentence of advice."""

    converged = "Converged."
    max_steps = (
        "The step budget ran out before the tolerance was met. Allow more steps, loosen the tolerance, or use a "
        "learning rate that suits the problem."
    )
    nonfinite = (
        "A value or parameter became NaN or infinite; the last finite parameters were kept. Lower the learning rate, "
        "clip gradients with `metaopt.ClipByGlobalNorm`, or wrap the algorithm in `metaopt.SkipNonFinite`."
    )


class Solution(eqx.Module, Generic[P]):
    """What a driver found.

    - `params`: the parameters.
    - `value`: the value at `params` (for `fixed_point`: the norm of the residual there).
    - `signal_norm`: the norm of the gradient or residual that was seen last.
    - `steps`: how many steps were taken.
    - `result`: a member of [`metaopt.RESULTS`][].
    """

    params: P
    value: Float[Array, ""]
    signal_norm: Float[Array, ""]
    steps: Int[Array, ""]
    result: RESULTS
