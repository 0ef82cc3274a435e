"""What conditions share."""

from jaxtyping import Array, Float


def chosen(found: Float[Array, "n m"], components: tuple[int, ...] | None) -> Float[Array, "n k"]:
    """The columns of these components, or all."""
    return found if components is None else found[:, list(components)]
