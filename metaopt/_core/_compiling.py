"""What XLA is told, to compile for less long."""

import jax


_EMITTERS = "xla_cpu_use_fusion_emitters"


def quick_options(level: int, *, emitters: bool = True) -> dict[str, bool | str | int | float]:
    """Options of `jax.jit` with which small programs compile in a fraction of the time on a processor; elsewhere, none.

    **Arguments:**

    - `level`: of optimization, from 0 to 3.
    - `emitters`: whether loops are made the new way, which takes longer. From jax 0.12 on there is no other.
    """
    if jax.default_backend() != "cpu":
        return {}
    known = jax.__version_info__ < (0, 12)
    return {"xla_backend_optimization_level": level, **({_EMITTERS: False} if known and not emitters else {})}
