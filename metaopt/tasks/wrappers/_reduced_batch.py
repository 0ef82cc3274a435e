"""The same tasks with noisier gradients."""

import dataclasses
from typing import Any

import equinox as eqx
from jaxtyping import PRNGKeyArray

from ..._core import AbstractTask, AbstractTaskFamily


class ReducedBatch(AbstractTaskFamily):
    """Let the tasks of a family see smaller minibatches, so that a learner meets noisier gradients.

    Works for every family whose tasks have a static `batch_size`, themselves or as the `inner` of a wrapper, as all
    of this library with minibatches have. Sizes are static, so all tasks of one family have the same; make one family
    of each size.

    **Arguments:**

    - `inner`: the family.
    - `fraction`: what is left of each batch. At least one point is.

    **Raises:**

    - `ValueError`: if `fraction` is not above 0 and at most 1.
    - `TypeError`: when a task is drawn that has no `batch_size`.
    """

    inner: AbstractTaskFamily
    fraction: float = eqx.field(static=True, default=0.25)

    def __check_init__(self) -> None:
        if not 0 < self.fraction <= 1:
            raise ValueError(f"`fraction` must be above 0 and at most 1, but {self.fraction!r} was given.")

    def sample(self, *, key: PRNGKeyArray) -> AbstractTask[Any, Any]:
        task = self.inner.sample(key=key)
        reduced = _reduced(task, self.fraction)
        if reduced is None:
            raise TypeError(
                f"`{type(task).__name__}` has no static field `batch_size`, so its minibatches cannot be reduced. Give "
                "it one, which `loss` reads."
            )
        return reduced


def _reduced(task: Any, fraction: float) -> Any:
    """The task with a smaller batch, or `None` if it has none."""
    fields = {field.name for field in dataclasses.fields(task)}
    replace: Any = dataclasses.replace
    if "batch_size" in fields:
        return replace(task, batch_size=max(1, int(task.batch_size * fraction)))
    if "inner" in fields:
        inner = _reduced(task.inner, fraction)
        return None if inner is None else replace(task, inner=inner)
    return None
