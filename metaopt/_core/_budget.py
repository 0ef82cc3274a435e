"""Calls that must not take long."""

import contextlib
import sys
from collections.abc import Iterator
from types import FrameType
from typing import Any, no_type_check


class OverBudget(BaseException):
    """Raised in the middle of a call that takes more than it may. No `except Exception` may take it for its own."""


@contextlib.contextmanager
def budget(events: int) -> Iterator[None]:
    """End what is done in this thread after so many calls and returns of functions, without those of imports.

    It is counted, not timed, so that the same is allowed everywhere. Beside a profiler that counts in the same place,
    nothing is.

    **Raises:**

    - `OverBudget`: if there are more.
    """
    if sys.getprofile() is not None:
        yield
        return
    left, importing = events, 0

    @no_type_check  # at every call, checking it would take longer than all that is called
    def count(frame: FrameType, event: str, argument: Any) -> None:
        nonlocal left, importing
        del argument
        # A module that is imported in part would be broken for the rest of the process.
        if frame.f_code.co_name == "_find_and_load" and frame.f_code.co_filename.startswith("<frozen importlib"):
            importing += {"call": 1, "return": -1}.get(event, 0)
        elif not importing:
            left -= 1
            if left < 0:
                raise OverBudget

    sys.setprofile(count)
    try:
        yield
    finally:
        sys.setprofile(None)
