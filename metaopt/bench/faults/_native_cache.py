"""What becomes of native kernels when their cache is damaged, shared, out of reach or not there."""

import itertools as it
import json
import os
import subprocess
import sys
import tempfile
import time
from typing import Any

from ...backend import unusable
from .._timing import own_paths
from ..base import Claim
from ._native_cases import CASES, WHOLE


_SEED = 16
# Cases of one process, so that one that dies takes few others' time with it.
_BATCH, _PATIENCE = 50, 300.0


def measure(*, full: bool, cases: int = 100, seed: int = _SEED) -> tuple[list[dict[str, Any]], list[Claim]]:
    """Damage the cache of native kernels in many ways, and count how often the right numbers come out.

    Each case fills a cache of its own by the compiler of this machine, does something to it, and asks for the kernel
    again, two times. It has survived if both give what the source says, or, where nothing can be compiled, if the error
    is raised that makes the reference run, with its reason. Planted libraries, wrong numbers, other exceptions and
    processes that die or hang have not survived. Most kernels are small functions; some are a learned rule against
    `xla`, each in a process of its own that starts with the damaged cache.

    **Arguments:**

    - `full`: nothing more is done.
    - `cases`: how many.
    - `seed`: of what is random in them.
    """
    del full
    reason = unusable("native")
    if reason:
        return [{"native cache": f"not measured: {reason}"}], []
    names = _choose(cases)
    found = _run(names, seed)
    rows = []
    for name in dict.fromkeys(names):
        own = [found[index] for index in range(cases) if names[index] == name]
        failed = [said for said in own if not said["survived"]]
        outcomes = sorted({said["outcome"] for said in own})
        rows.append(
            {
                "native cache": name,
                "cases": len(own),
                "survived": len(own) - len(failed),
                "outcome": "; ".join(failed[0]["outcome"] if failed else outcome for outcome in outcomes[:2]),
            }
        )
    survived = sum(said["survived"] for said in found.values())
    by = "root" if os.name == "posix" and os.geteuid() == 0 else "a user who cannot give files away"
    note = f"{survived} of {cases} cases of {len(rows)} kinds, seed {seed}, as {by}"
    return rows, [Claim("native_cache_survived_share", survived / cases, note)]


def _choose(cases: int) -> list[str]:
    """One of each kind, then again and again those that are another thing each time; rules in the end."""
    root = os.name == "posix" and os.geteuid() == 0
    small = [name for name, case in CASES.items() if root or not case.root]
    chance = [name for name, case in CASES.items() if case.chance]
    whole = list(WHOLE)[: cases // 10]
    return [*it.islice(it.chain(small, it.cycle(chance)), cases - len(whole)), *whole]


def _run(names: list[str], seed: int) -> dict[int, dict[str, Any]]:
    """The outcome of each case; after a process that has died, another one goes on with the next case."""
    found: dict[int, dict[str, Any]] = {}
    with tempfile.TemporaryDirectory() as folder:
        left = [index for index, name in enumerate(names) if name in CASES]
        while left:
            found |= _in_process(left[:_BATCH], names, seed, folder)
            left = [index for index in left if index not in found]
        for index, name in enumerate(names):
            if name in WHOLE:
                found |= _in_process([index], names, seed, folder)
    return found


def _in_process(indices: list[int], names: list[str], seed: int, folder: str) -> dict[int, dict[str, Any]]:
    """The outcomes of cases up to the first one that ends the process, at least of the first one."""
    command = [sys.executable, "-m", "metaopt.bench.faults._native_cases"]
    cases = [[index, names[index]] for index in indices]
    task = json.dumps({"seed": seed, "filled": os.path.join(folder, "filled"), "cases": cases})
    begun = time.monotonic()
    process = subprocess.Popen(
        command,
        env=os.environ | own_paths() | {"JAX_PLATFORMS": "cpu"},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
    )
    try:
        out, err = process.communicate(task, timeout=_PATIENCE)
    except subprocess.TimeoutExpired:
        process.kill()
        out, err = process.communicate()
    found = {}
    for line in out.splitlines():
        if line.startswith("{"):
            said = json.loads(line)
            found[said["case"]] = said
    missing = [index for index in indices if index not in found]
    if missing:
        last = err.strip().splitlines()[-1:] or [""]
        outcome = (
            f"the process ended with status {process.returncode} after {time.monotonic() - begun:.0f} s: {last[0]}"
        )
        found[missing[0]] = {"case": missing[0], "survived": False, "outcome": outcome}
    return found
