"""What users and machines do to runs: faulty numbers, damaged files, kills, broken caches."""

from ..base import Report
from . import _fuzz, _kills, _native_cache, _recovery


def run(*, full: bool = False) -> Report:
    """Run all four parts, one after the other."""
    rows, claims = [], []
    for part in (_recovery, _fuzz, _kills, _native_cache):
        found, held = part.measure(full=full)
        rows += found
        claims += held
    return Report([0], rows, claims)
