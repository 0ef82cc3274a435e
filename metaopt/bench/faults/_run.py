"""What users and machines do to algorithms, files, runs and caches, and what becomes of it."""

import time

from ..base import Report
from . import _fuzz, _kills, _native_cache, _recovery


def run(*, full: bool = False) -> Report:
    """Run the four parts one after the other; each says its seeds in its rows or claims."""
    rows, claims, notes = [], [], []
    for name, part in {"numbers": _recovery, "files": _fuzz, "kills": _kills, "kernels": _native_cache}.items():
        begun, spent = time.perf_counter(), time.process_time()
        found, held = part.measure(full=full)
        rows += found
        claims += held
        notes.append(f"{name}: {time.perf_counter() - begun:.0f} s, {time.process_time() - spent:.0f} CPU-s here")
    return Report([0], rows, claims, notes)
