"""One program in many processes."""

import os
import signal
import sys
import threading
from collections.abc import Callable
from typing import Any

import jax


_WHERE = {
    "coordinator": ("METAOPT_COORDINATOR",),
    "processes": ("METAOPT_PROCESSES",),
    "index": ("METAOPT_PROCESS", "JOB_COMPLETION_INDEX"),
}
_WEEK = 7 * 24 * 3600


def initialize(
    coordinator: str | None = None,
    processes: int | None = None,
    index: int | None = None,
    *,
    devices: str | None = None,
    timeout: int = 300,
) -> None:
    """Join the other processes of this run, before anything else is done with JAX.

    Each process runs the same program; afterwards `jax.devices()` are those of all processes, and
    [`metaopt.sharding.make_mesh`][] spreads over them. What is not given is taken from the environment:

    - `METAOPT_COORDINATOR`, `METAOPT_PROCESSES` and `METAOPT_PROCESS`, which `python -m metaopt launch` sets. In an
        indexed job of Kubernetes, `JOB_COMPLETION_INDEX` stands for the last.
    - In a job step of SLURM, under Open MPI and on the hosts of a TPU slice, JAX finds out by itself.

    Where nothing says that there are other processes, and if this was called before, nothing happens. Handlers of
    signals stay as they are. A process that fails ends at once, since the others would wait for it, as it for them.

    **Arguments:**

    - `coordinator`: the address `HOST:PORT` at which the first process can be reached by all, or `"auto"`, where JAX
        shall find out although the environment does not say so, as on TPU machines without a cluster around them.
    - `processes`: how many there are.
    - `index`: the number of this one, from 0.
    - `devices`: the accelerators of this host that belong to this process, `"0,1"`; by default all, or what
        `METAOPT_DEVICES` says.
    - `timeout`: how many seconds to wait for the others.

    **Raises:**

    - `ValueError`: if only a part of this is known, or a part of it is wrong.
    - `RuntimeError`: if JAX has begun to compute, or the others cannot be reached.
    """
    if jax.distributed.is_initialized():
        return
    coordinator = _find("coordinator", coordinator)
    processes, index = _integer("processes", processes), _integer("index", index)
    # An index alone says nothing: each pod of an indexed job has one.
    known = {"coordinator": coordinator, "processes": processes}
    if processes == 1 or (not any(known.values()) and os.environ.get("METAOPT_PROCESS") is None and not _in_cluster()):
        return
    if coordinator == "auto":
        coordinator = None
    elif not _in_cluster():
        _check(coordinator, processes, index)
    devices = os.environ.get("METAOPT_DEVICES") if devices is None else devices
    # It would take SIGTERM away from Python.
    jax.config.update("jax_enable_preemption_service", False)
    handler = signal.getsignal(signal.SIGTERM)
    jax.distributed.initialize(
        coordinator,
        processes,
        index,
        local_device_ids=None if devices is None else [int(i) for i in devices.split(",")],
        initialization_timeout=timeout,
        # The first process may have to do something alone at the end, as long as it lives.
        shutdown_timeout_seconds=_WEEK,
    )
    if handler is not None and threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, handler)
    report, sys.excepthook = sys.excepthook, lambda *error: _end(report, *error)


def _end(report: Callable[..., object], kind: type[BaseException], *error: Any) -> None:
    report(kind, *error)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(130 if issubclass(kind, KeyboardInterrupt) else 1)


def _find(name: str, given: str | None) -> str | None:
    if given is not None:
        return given
    return next((os.environ[variable] for variable in _WHERE[name] if os.environ.get(variable)), None)


def _integer(name: str, given: int | None) -> int | None:
    text = _find(name, None if given is None else str(given))
    try:
        return None if text is None else int(text)
    except ValueError as error:
        raise ValueError(f"{_words(name)} must be a whole number, but {text!r} was given.") from error


def _words(name: str) -> str:
    return f"`{name}` (or `{_WHERE[name][0]}`)"


def _check(coordinator: str | None, processes: int | None, index: int | None) -> None:
    if coordinator is None or processes is None or index is None:
        known = {"coordinator": coordinator, "processes": processes, "index": index}
        missing = " and ".join(_words(name) for name, value in known.items() if value is None)
        given = ", ".join(f"{_words(name)} = {value!r}" for name, value in known.items() if value is not None)
        raise ValueError(f"To join other processes, {missing} must be given too; all that is known is {given}.")
    host, _, port = coordinator.rpartition(":")
    if not host or not port.isdigit():
        raise ValueError(f"{_words('coordinator')} must be `HOST:PORT`, but {coordinator!r} was given.")
    if processes < 1:
        raise ValueError(f"{_words('processes')} must be at least 1, but {processes} was given.")
    if not 0 <= index < processes:
        raise ValueError(f"{_words('index')} must be from 0 to {processes - 1}, but {index} was given.")


def _in_cluster() -> bool:
    """Whether the environment is one in which JAX finds the other processes, and there are some."""
    environ = os.environ
    slurm = {"SLURM_JOB_ID", "SLURM_STEP_NODELIST", "SLURM_PROCID", "SLURM_LOCALID"} <= set(environ)
    return (
        (slurm and environ.get("SLURM_NTASKS", "1") != "1")
        or environ.get("OMPI_COMM_WORLD_SIZE", "1") != "1"
        or "," in environ.get("TPU_WORKER_HOSTNAMES", "")
    )
