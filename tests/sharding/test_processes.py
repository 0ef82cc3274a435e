"""What `initialize` makes of its arguments and the environment. Many processes are in `tests/runs/test_launch.py`."""

import signal
import sys
from typing import Any

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

from metaopt.sharding import initialize, make_mesh
from metaopt.sharding._everywhere import agree, fetch, replicate


@pytest.fixture(autouse=True)
def calls(monkeypatch: pytest.MonkeyPatch) -> Any:
    """What JAX is asked to do, in an environment that says nothing."""
    for name in (
        *("METAOPT_COORDINATOR", "METAOPT_PROCESSES", "METAOPT_PROCESS", "METAOPT_DEVICES", "JOB_COMPLETION_INDEX"),
        *("SLURM_JOB_ID", "SLURM_NTASKS", "OMPI_COMM_WORLD_SIZE", "TPU_WORKER_HOSTNAMES"),
    ):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(sys, "excepthook", sys.excepthook)
    found: list[Any] = []

    def record(coordinator: Any, processes: Any, index: Any, **options: Any) -> None:
        found.append((coordinator, processes, index, options["local_device_ids"]))

    monkeypatch.setattr(jax.distributed, "initialize", record)
    before = jax.config.values["jax_enable_preemption_service"]
    yield found
    jax.config.update("jax_enable_preemption_service", before)


SLURM = {
    **{"SLURM_JOB_ID": "7", "SLURM_STEP_NODELIST": "node[1-4]"},
    **{"SLURM_PROCID": "2", "SLURM_LOCALID": "0", "SLURM_NTASKS": "4"},
}
OURS = {"METAOPT_COORDINATOR": "10.0.0.1:1234", "METAOPT_PROCESSES": "4", "METAOPT_PROCESS": "2"}
POD = {"METAOPT_COORDINATOR": "train-0.train:1234", "METAOPT_PROCESSES": "4", "JOB_COMPLETION_INDEX": "3"}


@pytest.mark.parametrize(
    ("environment", "arguments", "wanted"),
    [
        ({}, ("h:1", 2, 0), ("h:1", 2, 0, None)),
        (OURS, (), ("10.0.0.1:1234", 4, 2, None)),
        (OURS | {"METAOPT_DEVICES": "0,3"}, (), ("10.0.0.1:1234", 4, 2, [0, 3])),
        (OURS, ("h:1", 8), ("h:1", 8, 2, None)),
        (POD, (), ("train-0.train:1234", 4, 3, None)),
        (POD | {"METAOPT_PROCESS": "1"}, (), ("train-0.train:1234", 4, 1, None)),
        (SLURM, (), (None, None, None, None)),
        (SLURM | OURS, (), ("10.0.0.1:1234", 4, 2, None)),
        (SLURM, ("h:1",), ("h:1", None, None, None)),
        ({"OMPI_COMM_WORLD_SIZE": "2"}, (), (None, None, None, None)),
        ({"TPU_WORKER_HOSTNAMES": "a,b"}, (), (None, None, None, None)),
        ({}, ("auto",), (None, None, None, None)),
        # There is one process only.
        ({}, (), None),
        ({"METAOPT_PROCESSES": "1"}, (), None),
        (SLURM, (None, 1), None),
        (SLURM | {"SLURM_NTASKS": "1"}, (), None),
        ({"TPU_WORKER_HOSTNAMES": "localhost"}, (), None),
        ({"JOB_COMPLETION_INDEX": "3"}, (), None),
    ],
)
def test_what_is_known(
    calls: Any, monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], arguments: Any, wanted: Any
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    initialize(*arguments)
    assert calls == ([] if wanted is None else [wanted])


@pytest.mark.parametrize(
    ("environment", "arguments", "words"),
    [
        ({}, ("h:1",), "`processes` .or `METAOPT_PROCESSES`. and `index` .* must be given too; .* = 'h:1'"),
        ({}, (None, 2), "`coordinator` .* and `index`"),
        ({"METAOPT_PROCESS": "0"}, (), "`coordinator` .* and `processes` .* known is `index` .* = 0"),
        (OURS | {"METAOPT_PROCESS": "4"}, (), "`index` .* must be from 0 to 3, but 4 was given"),
        (OURS | {"METAOPT_PROCESSES": "many"}, (), "`processes` .* must be a whole number, but 'many' was given"),
        (OURS | {"METAOPT_PROCESSES": "0"}, (), "`processes` .* must be at least 1, but 0 was given"),
        (OURS, ("10.0.0.1",), "`coordinator` .* must be `HOST:PORT`, but '10.0.0.1' was given"),
        (OURS, (":80",), "must be `HOST:PORT`"),
    ],
)
def test_what_is_wrong(
    calls: Any, monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], arguments: Any, words: str
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(ValueError, match=words):
        initialize(*arguments)
    assert calls == []


def test_a_second_time_nothing_happens(calls: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jax.distributed, "is_initialized", lambda: True)
    initialize("h:1", 2, 0)
    assert calls == []


def test_handlers_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    def handler(*_: object) -> None:
        pass

    def initialize_(*_: Any, **__: Any) -> None:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)

    monkeypatch.setattr(jax.distributed, "initialize", initialize_)
    before = signal.signal(signal.SIGTERM, handler)
    try:
        initialize("h:1", 2, 0)
        assert signal.getsignal(signal.SIGTERM) is handler
    finally:
        signal.signal(signal.SIGTERM, before)


def test_replicated_and_back() -> None:
    tree = {"a": np.arange(3), "k": jr.key(1), "s": "text", "x": 0.5, "j": jnp.ones(())}
    shared = replicate(tree, make_mesh(tasks=8))
    assert len(shared["a"].sharding.device_set) == len(shared["k"].sharding.device_set) == 8
    back = fetch(shared)
    assert isinstance(back["a"], jax.Array) and len(back["k"].sharding.device_set) == 1
    assert jnp.array_equal(jr.key_data(back["k"]), jr.key_data(tree["k"])) and jnp.array_equal(back["a"], tree["a"])
    assert back["s"] == "text" and back["x"] == 0.5


def test_one_process_agrees_with_itself() -> None:
    assert agree(7) == 7
