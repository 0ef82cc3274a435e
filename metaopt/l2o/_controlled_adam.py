"""Adam whose rate and direction a small controller plans per tensor."""

import equinox as eqx
from jaxtyping import Array, Float, PRNGKeyArray, PyTree, Scalar

from .._core import AbstractAlgorithm
from ._adam_head import AdamHead
from ._common import CellState, finish, init_tensors, match_real, widen


class ControlledAdam(AbstractAlgorithm[CellState, PyTree, PyTree]):
    r"""Adam whose rate and direction a small controller plans per tensor, over a known number of steps.

    The rule is that of [`metaopt.l2o.AdamHead`][] with $o = 0$: there is no network that sees single parameters, so a
    step costs little more than Adam's, and there are little more than a hundred weights to learn.
    """

    head: AdamHead = eqx.field(default_factory=AdamHead)

    def init(self, params: PyTree, *, key: PRNGKeyArray | None = None) -> CellState:
        del key
        return init_tensors(self.head.init, params)

    def step(
        self, state: CellState, params: PyTree, grads: PyTree, *, value: Scalar | None = None
    ) -> tuple[CellState, PyTree]:
        del value
        matched = match_real(params, grads)
        tensors, new = [], []
        for leaf, old in zip(matched.leaves, matched.pick(state.tensors), strict=True):
            param, grad = widen(leaf)
            prepared = self.head.prepare(old, param, grad, state.step)
            tensors.append(prepared.state)
            new.append(_finish(prepared.operands, param))
        return finish(state, matched, tensors, new)


def _finish(operands: PyTree, param: Float[Array, "*p"]) -> Float[Array, "*p"]:
    return AdamHead.finish(operands, param, (0.0,) * AdamHead.outputs)
