"""Everything that can go wrong, done on purpose: bad numbers, damaged files, killed runs and strange machines."""

from ._run import run as run
