"""The switch with which users type-check their own integrations."""

from collections.abc import Sequence
from typing import Any

from jaxtyping import install_import_hook


def typechecked(*modules: str) -> Any:
    """Check every array annotation in your own modules at run time, with jaxtyping and beartype.

    An import hook: modules imported while it is active have each annotated function and Equinox module checked
    whenever it is called, shapes and dtypes included. As for static checkers, an integer is fine for a float. Under
    `jax.jit` the checks run while tracing, so they cost nothing at run time.

    ```python
    import metaopt

    with metaopt.typechecked("my_project"):
        import my_project
    ```

    **Arguments:**

    - `*modules`: names of modules or packages; a package includes all below it.

    **Returns:**

    A context manager; on leaving it the hook is removed, and modules that were imported stay checked.

    **Raises:**

    - `ValueError`: if no module is named.
    """
    if not modules:
        raise ValueError("`typechecked` needs the name of at least one module, such as `typechecked('my_project')`.")
    names: Sequence[str] = list(modules)
    return install_import_hook(names, f"{__name__}.check")


def check(checked: Any) -> Any:
    """What checks a function or class; the import hook looks it up by name."""
    # Imported when it is needed, since `import metaopt` does not need it.
    from beartype import BeartypeConf, beartype

    return beartype(conf=BeartypeConf(is_pep484_tower=True))(checked)
