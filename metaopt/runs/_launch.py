"""A supervisor: many processes on this machine that live and die together."""

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from typing import IO


# Wrong arguments, and an end that was asked for: doing it again would not help.
_FINAL = {0, 2, 130, 143}
_LONGEST_PAUSE = 30.0
_SUPERVISED = "METAOPT_SUPERVISED"


def supervise(
    command: Sequence[str],
    *,
    processes: int,
    again: Sequence[str] | None = None,
    retries: int = 3,
    pause: float = 1.0,
    patience: float = 300.0,
    environment: Mapping[str, str] | None = None,
) -> int:
    """Run a command in many processes, and start all of them anew when one dies.

    They find each other by [`metaopt.sharding.initialize`][]. The first one's output goes where the supervisor's goes;
    what the others print goes to standard error, each line with the number of its process. When one process ends with
    an error, the others are killed. Ctrl-C and SIGTERM are passed on to all, which then have time to save; a second one
    kills them. Where the supervisor is killed, they end too.

    **Arguments:**

    - `command`: the program and its arguments.
    - `processes`: how many.
    - `again`: the command after a failure; by default the same.
    - `retries`: how many failures to answer with a new start. A process that ends with status 2, which says that its
        arguments are wrong, is not started anew.
    - `pause`: seconds to wait before the first new start; twice as many before each further one.
    - `patience`: seconds that the processes have to save after a signal.
    - `environment`: variables that they get beside those of the supervisor.

    **Returns:**

    The exit status: 0 if all ended well, otherwise that of the first that did not.

    **Raises:**

    - `ValueError`: for fewer than one process or a negative number of retries.
    """
    for name, number, least in (("processes", processes, 1), ("retries", retries, 0)):
        if number < least:
            raise ValueError(f"`{name}` must be at least {least}, but {number} was given.")
    failures = 0
    while True:
        group = _Group(command if failures == 0 or again is None else again, processes, environment or {})
        status = group.wait(patience)
        if status in _FINAL:
            return status
        if failures == retries:
            _say(f"{group.epitaph}; given up after {retries + 1} starts.")
            return status
        seconds = min(pause * 2**failures, _LONGEST_PAUSE)
        failures += 1
        _say(f"{group.epitaph}; all start again in {seconds:g} s (retry {failures} of {retries}).")
        time.sleep(seconds)


def end_with_supervisor() -> None:
    """In a process that `supervise` has started: end as soon as the supervisor is no more."""
    if os.environ.get(_SUPERVISED):
        threading.Thread(target=_wait_for_end, daemon=True).start()


def _wait_for_end() -> None:
    # The other end of this pipe is closed when the supervisor dies, however it does.
    os.read(0, 1)
    os._exit(1)


class _Group:
    """Processes that run now."""

    def __init__(self, command: Sequence[str], processes: int, environment: Mapping[str, str]):
        self.children: list[subprocess.Popen[bytes]] = []
        self.readers: list[threading.Thread] = []
        self.epitaph = ""
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            coordinator = f"127.0.0.1:{free.getsockname()[1]}"
        for index in range(processes):
            own = {
                "METAOPT_COORDINATOR": coordinator,
                "METAOPT_PROCESSES": str(processes),
                "METAOPT_PROCESS": str(index),
                "METAOPT_DEVICES": str(index),
                _SUPERVISED: "1",
            }
            child = subprocess.Popen(
                command,
                env={**os.environ, **environment, **own},
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE if index else None,
                stderr=subprocess.STDOUT if index else None,
                # Ctrl-C in a terminal must reach each of them once, through the supervisor.
                start_new_session=True,
            )
            self.children.append(child)
            if child.stdout is not None:
                self.readers.append(threading.Thread(target=_pass_on, args=(child.stdout, index), daemon=True))
                self.readers[-1].start()

    def wait(self, patience: float) -> int:
        """Wait until all have ended, or one has failed; none is left then."""
        try:
            while True:
                status = self.status()
                if status is not None:
                    return status
                time.sleep(0.05)
        except KeyboardInterrupt:
            # SIGTERM comes as an interrupt too, and the processes take both alike.
            self.end_softly(patience)
            raise
        finally:
            for child in self.children:
                child.kill()
            for child in self.children:
                child.wait()
                if child.stdin is not None:
                    child.stdin.close()
            for reader in self.readers:
                reader.join(timeout=1.0)

    def status(self) -> int | None:
        """The exit status of the group; none while all is well and not over."""
        codes = [child.poll() for child in self.children]
        failed = {i: code for i, code in enumerate(codes) if code}
        for index, code in sorted(failed.items(), key=lambda item: item[1] not in _FINAL):
            how = f"was killed by signal {-code}" if code < 0 else f"ended with status {code}"
            self.epitaph = f"process {index} {how}"
            return 128 - code if code < 0 else code
        return 0 if all(code == 0 for code in codes) else None

    def end_softly(self, patience: float) -> None:
        for child in self.children:
            child.send_signal(signal.SIGTERM)
        deadline = time.monotonic() + patience
        while any(child.poll() is None for child in self.children) and time.monotonic() < deadline:
            time.sleep(0.05)


def _pass_on(lines: IO[bytes], index: int) -> None:
    with lines:
        for line in lines:
            print(f"[{index}] {line.decode(errors='replace').rstrip()}", file=sys.stderr, flush=True)


def _say(text: str) -> None:
    print(f"metaopt: {text}", file=sys.stderr, flush=True)
