"""Packages that are not always installed."""


def missing(what: str, package: str, extra: str, instead: str = "") -> ImportError:
    """The error for a package that is not there.

    **Arguments:**

    - `what`: what wants the package, with its verb.
    - `extra`: of metaopt, that installs it.
    - `instead`: what else could be done, to follow on the advice.
    """
    return ImportError(f'{what} `{package}`. Install it with `pip install "metaopt[{extra}]"`{instead}.', name=package)
