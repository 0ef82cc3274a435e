"""Tasks spread over devices."""

import dataclasses
import functools as ft
from typing import Any, TypeVar

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import jax.tree_util as jtu
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jaxtyping import PRNGKeyArray

from ..._core import Learner
from ..base import AbstractEstimator, AbstractSpreadEstimator, MetaGradient, MetaProblem
from ._devices import task_keys, total


S = TypeVar("S")
_AXIS = "tasks"


class TaskParallel(AbstractEstimator[S]):
    """Spread the tasks of another estimator over the `tasks` axis of a mesh.

    Each device runs its share of the episodes, and they meet once per estimate, to add up the gradients: with $P$
    trained numbers, $4 P$ bytes are all-reduced in single precision, whatever the tasks and the truncation.

    The estimate of an [`metaopt.meta.AbstractSpreadEstimator`][], which all of ours are, is that of the inner
    estimator up to the order of summation: random keys belong to tasks, not to devices. Any other estimator runs on
    each device as it is, with a key of its own, and the means of the devices are averaged: the expectation is the same,
    and the numbers depend on how many devices there are.

    ```python
    estimator = TaskParallel(PES(0.01, 20), make_mesh(tasks=8))
    ```

    **Arguments:**

    - `inner`: the estimator.
    - `mesh`: has an axis `tasks`, and no other with more than one device; see [`metaopt.sharding.make_mesh`][].

    **Raises:**

    - `ValueError`: for another mesh, an estimator that is spread already, or, when it runs, a problem whose tasks
        cannot be spread evenly.
    """

    inner: AbstractEstimator[S]
    mesh: Mesh = eqx.field(static=True)

    def __check_init__(self) -> None:
        if _AXIS not in self.mesh.shape:
            raise ValueError(f"The mesh needs an axis `{_AXIS}`, but it has {tuple(self.mesh.shape)}.")
        if self.mesh.size != self.mesh.shape[_AXIS]:
            others = {name: size for name, size in self.mesh.shape.items() if name != _AXIS and size > 1}
            raise ValueError(
                f"The mesh has other axes than `{_AXIS}`, {others}, along which devices would repeat each other's "
                f"work. Use all for tasks: `make_mesh(tasks={self.mesh.size})`."
            )
        if isinstance(self.inner, TaskParallel):
            raise ValueError("The inner estimator is spread over devices already.")

    def init(self, learner: Learner, problem: MetaProblem, *, key: PRNGKeyArray) -> S:
        share = self._share(problem)
        if spreads(self.inner):
            # All arrays that it carries have a leading axis of tasks.
            state = self.inner.init(learner, problem, key=key)
        else:
            keys = task_keys(key, jnp.arange(self.mesh.size))
            state = eqx.filter_vmap(lambda key: self.inner.init(learner, share, key=key))(keys)
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
            run = self.inner.estimate if spreads(self.inner) else ft.partial(_alone, self.inner)
            arrays, other = eqx.partition(run(own, learner, share, key=key), eqx.is_array)
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
        axis = _AXIS if spreads(self.inner) else None
        return dataclasses.replace(problem, tasks=problem.tasks // devices, axis=axis)


def spreads(estimator: AbstractEstimator[Any]) -> bool:
    """Whether an estimator, and each that it wraps, knows of tasks on other devices."""
    parts = [getattr(estimator, field.name) for field in dataclasses.fields(estimator)]
    inner = [part for part in parts if isinstance(part, AbstractEstimator)]
    return isinstance(estimator, AbstractSpreadEstimator) and all(spreads(each) for each in inner)


def _alone(
    estimator: AbstractEstimator[S], state: S, learner: Learner, share: MetaProblem, *, key: PRNGKeyArray
) -> tuple[S, MetaGradient]:
    """An estimate by one device of several that know nothing of each other, and the mean of theirs."""
    own = jtu.tree_map(lambda x: x[0] if eqx.is_array(x) else x, state)
    key = jr.fold_in(key, jax.lax.axis_index(_AXIS))
    own, estimate = estimator.estimate(own, learner, share, key=key)
    shared = dataclasses.replace(share, axis=_AXIS)
    devices = jax.lax.axis_size(_AXIS)
    told = (estimate.grads, estimate.value, estimate.nonfinite, estimate.variance, estimate.families)
    grads, value, nonfinite, variance, families = total(told, shared)
    grads = jtu.tree_map(lambda g: g / devices, grads)
    variance = None if variance is None else variance / devices**2
    families = None if families is None else families / devices
    return jtu.tree_map(lambda x: x[None] if eqx.is_array(x) else x, own), MetaGradient(
        grads, value / devices, nonfinite, variance, families
    )


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
