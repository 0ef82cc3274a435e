"""What this installation can do, and whether its numbers are right."""

import dataclasses
import os
import time
import traceback
from collections.abc import Callable, Mapping
from typing import Any

from ._checks import CHECKS, Skipped
from ._parts import PARTS
from ._text import plain


_WIDTH = 24
_REPORT = (
    "A bug report should contain: this page (or the file of `--json`); the smallest program that shows what is wrong,\n"
    "with its random keys; the whole text of the error, or the number that came and the one that was expected; and\n"
    "whether it also happens with JAX_PLATFORMS=cpu, and with `backend=metaopt.backend.XLA()`."
)


@dataclasses.dataclass(frozen=True)
class Check:
    """One self-test: a number, the most that it may be, and what came of it.

    **Attributes:**

    - `status`: `"ok"`, `"FAILED"`, or `"skipped"` where this machine has nothing to test.
    - `value`, `most`: an error, and its bound; `None` if none was found.
    - `note`: why it was skipped or failed, or what was tested.
    """

    name: str
    status: str
    value: float | None
    most: float | None
    note: str
    seconds: float


@dataclasses.dataclass(frozen=True)
class Diagnosis:
    """What [`metaopt.doctor.diagnose`][] has found.

    **Attributes:**

    - `parts`: what this installation is, by part; a part that could not be looked at has one entry, `ERROR`.
    - `checks`: the self-tests.
    """

    parts: dict[str, dict[str, str]]
    checks: list[Check]

    @property
    def healthy(self) -> bool:
        """Whether every part could be looked at, and no self-test failed."""
        return not any("ERROR" in part for part in self.parts.values()) and not any(
            check.status == "FAILED" for check in self.checks
        )

    def to_json(self) -> dict[str, Any]:
        """All of it as JSON data, for a bug report."""
        return {
            "healthy": self.healthy,
            "parts": self.parts,
            "checks": [dataclasses.asdict(check) for check in self.checks],
        }


def diagnose(show: Callable[[str], Any] | None = None) -> Diagnosis:
    """Look at this installation and let it compute numbers that are known, which takes about ten seconds.

    Nothing here needs a network, and no part that is broken keeps the others from being looked at. What comes from the
    environment is shown in printable characters, without the user's home folder and the names of hosts.

    **Arguments:**

    - `show`: is called with each piece of text as soon as there is one, so that a crash shows what it was in.
        Joined, they are the page of `python -m metaopt doctor`.

    **Returns:**

    A [`metaopt.doctor.Diagnosis`][].
    """
    say = show or (lambda _: None)
    parts = {}
    for name, look in PARTS.items():
        say(f"{name}\n")
        parts[name] = _look(look)
        say("".join(f"  {key.ljust(_WIDTH)}  {value}\n" for key, value in parts[name].items()) + "\n")
    say("self-test\n")
    checks = []
    for name, (test, most) in CHECKS.items():
        say(f"  {name.ljust(2 * _WIDTH)}")
        check = _check(name, test, most)
        checks.append(check)
        say(f"  {_outcome(check)}\n")
    found = Diagnosis(parts, checks)
    say(f"\n{_summary(found)}\n\n{_REPORT}\n")
    return found


def _look(look: Callable[[], Mapping[str, object]]) -> dict[str, str]:
    try:
        return {plain(key): plain(value) for key, value in look().items()}
    except Exception as error:  # that something is broken is what this is for
        return {"ERROR": plain(_said(error))}


def _said(error: Exception) -> str:
    """An error on one line, with where it was raised: some have no text."""
    frame = traceback.extract_tb(error.__traceback__)[-1]
    return f"{type(error).__name__}: {error} [{os.path.basename(frame.filename)}, line {frame.lineno}]"


def _check(name: str, test: Callable[[], tuple[float, str]], most: float) -> Check:
    begun = time.perf_counter()
    try:
        value, note = test()
        # NaN is no success.
        status = "ok" if value <= most else "FAILED"
        bound: float | None = most
    except Skipped as reason:
        value, note, status, bound = None, str(reason), "skipped", None
    except Exception as error:
        value, note, status, bound = None, _said(error), "FAILED", None
    return Check(name, status, value, bound, plain(note), time.perf_counter() - begun)


def _outcome(check: Check) -> str:
    number = "" if check.value is None else f"{check.value:.1e} (at most {check.most:.0e})"
    return f"{check.status:7}  {number:24}  {check.seconds:4.1f} s  {check.note}".rstrip()


def _summary(found: Diagnosis) -> str:
    failed = [check.name for check in found.checks if check.status == "FAILED"]
    broken = [name for name, part in found.parts.items() if "ERROR" in part]
    seconds = sum(check.seconds for check in found.checks)
    if found.healthy:
        return f"Healthy: {len(found.checks)} self-tests in {seconds:.1f} s, none failed."
    return f"NOT HEALTHY: {'; '.join([*failed, *broken])}."
