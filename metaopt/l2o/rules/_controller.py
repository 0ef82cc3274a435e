"""Adam whose rate and direction a small controller plans per tensor."""

from typing import Any, Literal, TypeVar

from jaxtyping import PRNGKeyArray, Scalar

from ..._core import AbstractAlgorithm
from ..._core._algorithm import ASSUMED_HORIZON
from ..._core.arrays._numbers import COUNT, POSITIVE
from ..parts._adam_head import AdamHead
from ..parts._common import CellState, finish, init_tensors, match_real, moving, widen


P = TypeVar("P")


class Controller(AbstractAlgorithm[CellState, Any, Any]):
    r"""Adam whose rate and direction a small controller plans per tensor, over a known number of steps.

    The rule is that of [`metaopt.l2o.AdamHead`][] with $o = 0$: no network sees single parameters, so a step costs
    little more than Adam's, and there are little more than a hundred weights to learn. An untrained controller is Adam
    with a cosine schedule. It plans ahead: tell it the budget with [`metaopt.with_horizon`][].

    ??? cite "Reference"

        The idea of a network per tensor that steers a hand-designed rule:

        ```bibtex
        @article{metz2020using,
          title={Using a thousand optimization tasks to learn hyperparameter search strategies},
          author={Metz, Luke and Maheswaranathan, Niru and Sun, Ruoxi and Freeman, C Daniel
                  and Poole, Ben and Sohl-Dickstein, Jascha},
          journal={arXiv:2002.11887}, year={2020}
        }
        ```
    """

    head: AdamHead

    def __init__(
        self,
        learning_rate: float = 0.05,
        hidden_size: int = 8,
        *,
        schedule: Literal["cosine", "constant"] = "cosine",
        horizon: int = ASSUMED_HORIZON,
        key: PRNGKeyArray | None = None,
    ):
        """**Arguments:**

        - `learning_rate`: the rate to start from: a good one for Adam with this schedule.
        - `hidden_size`: of the controller.
        - `schedule`: what the rate does when nothing is learned: a half cosine over the horizon, or nothing.
        - `horizon`: how many steps there will be; the drivers set it.
        - `key`: draws the weights; the same weights each time if it is left out.

        **Raises:**

        - `ValueError`: for a rate or a size that is not positive.
        """
        POSITIVE.check(learning_rate=learning_rate)
        COUNT.check(hidden_size=hidden_size)
        self.head = AdamHead(learning_rate, hidden_size=hidden_size, schedule=schedule, horizon=horizon, key=key)

    def init(self, params: Any, *, key: PRNGKeyArray | None = None) -> CellState:
        del key
        return init_tensors(self.head.init, params)

    def step(self, state: CellState, params: P, grads: Any, *, value: Scalar | None = None) -> tuple[CellState, P]:
        del value
        matched = match_real(params, grads)
        tensors, new = [], []
        for leaf, old in zip(matched.leaves, matched.pick(state.tensors), strict=True):
            param, grad = widen(leaf)
            new_state, seen = self.head.observe(old, self.head.prepare(param, state.count), grad)
            tensors.append(new_state)
            new.append(self.head.finish(seen, param, (0.0,) * self.head.outputs))
        return finish(state, matched, moving(state, matched), tensors, new)
