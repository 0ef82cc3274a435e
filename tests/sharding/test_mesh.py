"""Meshes of the faked devices."""

import jax
import pytest

import metaopt
from metaopt.sharding import make_mesh


def test_a_mesh_has_three_axes() -> None:
    mesh = make_mesh(tasks=2, model=4)
    assert dict(mesh.shape) == {"tasks": 2, "data": 1, "model": 4}
    assert len({device.id for device in mesh.devices.flat}) == 8


def test_the_first_of_the_devices_are_taken() -> None:
    devices = jax.devices()
    assert list(make_mesh(tasks=2).devices.flat) == devices[:2]
    assert list(make_mesh(data=2, devices=devices[5:]).devices.flat) == devices[5:7]


def test_a_mesh_from_a_spec() -> None:
    spec = {"name": "task_parallel", "inner": "pes", "mesh": {"name": "mesh", "tasks": 4}}
    estimator = metaopt.build(spec, metaopt.meta.AbstractEstimator)
    assert isinstance(estimator, metaopt.meta.TaskParallel) and estimator.mesh == make_mesh(tasks=4)


def test_impossible_meshes_are_refused() -> None:
    with pytest.raises(ValueError, match="`data` must be at least 1, but 0"):
        make_mesh(data=0)
    with pytest.raises(ValueError, match="3 x 1 x 4 needs 12 devices, but there are 8. On CPU"):
        make_mesh(tasks=3, model=4)
