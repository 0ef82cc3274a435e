"""Progress bars for people, and for files that what is printed goes to."""

import sys
from typing import Any


_SECONDS_BETWEEN_LINES = 10.0


class _Lines:
    """A file for a bar to be drawn on that gets each state of it as a line of its own."""

    def write(self, text: str) -> None:
        if text.strip():
            print(text.strip(), file=sys.stdout, flush=True)

    def flush(self) -> None:
        sys.stdout.flush()


def progress_bar(total: int, *, done: int, unit: str, enabled: bool) -> Any:
    """A `tqdm` bar on a terminal; elsewhere a plain line now and then.

    **Arguments:**

    - `total`, `done`: how much there is to do, and how much of it was done before.
    - `unit`: what is counted.
    - `enabled`: whether to show anything.
    """
    # Imported here to keep `import metaopt` light.
    from tqdm import tqdm

    common: dict[str, Any] = dict(total=total, initial=done, unit=unit, disable=not enabled)
    if sys.stdout.isatty():
        return tqdm(file=sys.stdout, **common)
    seconds = _SECONDS_BETWEEN_LINES
    # With `miniters` given, the bar is drawn by the clock alone.
    return tqdm(file=_Lines(), mininterval=seconds, maxinterval=seconds, miniters=1, ncols=100, **common)
