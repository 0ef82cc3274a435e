"""Tasks spread over devices."""

import dataclasses
from typing import Any, TypeVar

import equinox as eqx
import jax
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jaxtyping import PRNGKeyArray

from ..._core import Learner
from ..base import AbstractEstimator, MetaGradient, MetaProblem


S = TypeVar("S")
_AXIS = "tasks"


class TaskParallel(AbstractEstimator[S]):
    """Spread the tasks of another estimator over the `tasks` axis of a mesh.

    Each device runs its share of the episodes, and they meet once per estimate, to add up the gradients: with $P$
    trained numbers, $4 P$ bytes are all-reduced in single precision, whatever the tasks and the truncation. Random keys
    belong to tasks, not to devices, so the estimate is that of the inner estimator up to the order of summation.

    ```python
    estimator = TaskParallel(PES(0.01, 20), make_mesh(tasks=8))
    ```

    **Arguments:**

    - `inner`: the estimator.
    - `mesh`: has an axis `tasks`; see [`metaopt.sharding.make_mesh`][].
    """

    inner: AbstractEstimator[S]
    mesh: Mesh = eqx.field(static=True)

    def __check_init__(self) -> None:
        if _AXIS not in self.mesh.shape:
            raise ValueError(f"The mesh needs an axis `{_AXIS}`, but it has {tuple(self.mesh.shape)}.")
        if isinstance(self.inner, TaskParallel):
            raise ValueError("The inner estimator is spread over devices already.")

    def init(self, learner: Learner, problem: MetaProblem, *, key: PRNGKeyArray) -> S:
        self._share(problem)
        state = self.inner.init(learner, problem, key=key)
        # All arrays that an estimator carries have a leading axis of tasks.
        return eqx.filter_shard(state, NamedSharding(self.mesh, PartitionSpec(_AXIS)))

    def estimate(
        self, state: S, learner: Learner, problem: MetaProblem, *, key: PRNGKeyArray
    ) -> tuple[S, MetaGradient]:
        share = self._share(problem)
        # What is no array cannot go through `shard_map`; it is the same on all devices.
        dynamic, static = eqx.partition((state, learner, share), eqx.is_array)
        rest: list[Any] = []

        def local(state: Any, learner: Any, share: Any, key: PRNGKeyArray) -> Any:
            own, learner, share = eqx.combine((state, learner, share), static)
            result = self.inner.estimate(own, learner, share, key=key)
            arrays, other = eqx.partition(result, eqx.is_array)
            rest.append(other)
            return arrays

        split, whole = PartitionSpec(_AXIS), PartitionSpec()
        # Derivatives are taken inside, of what each device has itself; nothing there needs to know what varies.
        mapped = jax.shard_map(
            local,
            mesh=self.mesh,
            in_specs=(split, whole, whole, whole),
            out_specs=(split, whole),
            check_vma=False,
        )
        own, learner, share = dynamic
        return eqx.combine(mapped(own, learner, share, key), rest[0])

    def _share(self, problem: MetaProblem) -> MetaProblem:
        """The problem of one device."""
        devices = self.mesh.shape[_AXIS]
        if problem.tasks % devices:
            raise ValueError(
                f"{problem.tasks} tasks cannot be spread evenly over {devices} devices. Use a multiple of {devices} as "
                "`tasks` of the problem."
            )
        return dataclasses.replace(problem, tasks=problem.tasks // devices, axis=_AXIS)


def shared_mesh(estimator: AbstractEstimator[Any]) -> Mesh | None:
    """The mesh on which many processes meet; none if there is one process only.

    **Raises:**

    - `ValueError`: if the estimator leaves out a device.
    """
    processes, devices = jax.process_count(), jax.device_count()
    if processes == 1:
        return None
    mesh = estimator.mesh if isinstance(estimator, TaskParallel) else None
    if mesh is None or mesh.size != devices:
        found = "is not spread over devices" if mesh is None else f"is spread over {mesh.size}"
        raise ValueError(
            f"There are {processes} processes with {devices} devices, but the estimator {found}. Spread it over all, "
            f"`TaskParallel(estimator, make_mesh(tasks={devices}))`; in a spec, `estimator = {{ name = "
            f'"task_parallel", inner = ..., mesh = {{ name = "mesh", tasks = {devices} }} }}`.'
        )
    return mesh
