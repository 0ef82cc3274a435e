"""What a system refuses: single precision, dependent bases, and electrons that make no sense."""

import jax
import numpy as np
from jaxtyping import Float


# Below this smallest eigenvalue of the overlap, orthonormal functions lose half of the digits.
DEPENDENT = 1e-8


def require_double() -> None:
    """Refuse single precision.

    **Raises:**

    - `ValueError`: with advice.
    """
    if not jax.config.read("jax_enable_x64"):
        raise ValueError(
            "`metaopt.scf` needs double precision: energies are wanted to 1e-9 of themselves. Call "
            '`jax.config.update("jax_enable_x64", True)` at the start of the program, or work inside of '
            "`with jax.enable_x64(True):`."
        )


def check_overlap(overlap: Float[np.ndarray, "n n"]) -> None:
    """Refuse a linearly dependent basis.

    **Raises:**

    - `ValueError`: with the smallest eigenvalue.
    """
    smallest = float(np.linalg.eigvalsh(overlap)[0]) if overlap.size else 0.0
    if smallest < DEPENDENT:
        raise ValueError(
            f"The basis is linearly dependent: the smallest eigenvalue of the overlap is {smallest:.2g}, and at least "
            f"{DEPENDENT:g} was wanted. Use a basis with fewer diffuse functions, or move atoms apart."
        )


def count_electrons(electrons: int | tuple[int, int], functions: int) -> tuple[int, int]:
    """The numbers of electrons of each spin.

    **Raises:**

    - `ValueError`: if there are fewer than none, none at all, or more than there is room for.
    """
    up, down = electrons if isinstance(electrons, tuple) else ((electrons + 1) // 2, electrons // 2)
    if min(up, down) < 0 or up + down == 0:
        raise ValueError(f"There must be electrons of some spin, and not fewer than none, but {up, down} was given.")
    if max(up, down) > functions:
        raise ValueError(f"{functions} functions have no room for {up} and {down} electrons of each spin.")
    return up, down


def check_pairing(electrons: tuple[int, int], restricted: bool) -> None:
    """Refuse unpaired electrons in a restricted calculation.

    **Raises:**

    - `ValueError`: with the numbers.
    """
    up, down = electrons
    if restricted and up != down:
        odd = f"an odd number of electrons, {up + down}" if (up + down) % 2 else f"{abs(up - down)} unpaired electrons"
        raise ValueError(
            f"A restricted calculation pairs all electrons, but there is {odd} ({up} up, {down} down). Use "
            "`restricted=False`, or another charge or spin."
        )
