"""The checker of annotations that the tests run under."""

from beartype import BeartypeConf, beartype


# As for static checkers, an `int` is a `float`.
check = beartype(conf=BeartypeConf(is_pep484_tower=True))
