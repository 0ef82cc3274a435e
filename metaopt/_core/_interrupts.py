"""Interrupts at the right moment."""

import contextlib
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any


class _Terminated(KeyboardInterrupt):
    """SIGTERM in a program that has no handler for it: drivers save, then the process dies of it after all."""


def _terminate(number: int, frame: FrameType | None) -> None:
    raise _Terminated


class Moments:
    """When signals that wait are handled: at a call, and at the end of what holds them."""

    def __init__(self, let_through: Callable[[], None]):
        self._let_through, self.holding = let_through, False
        self.impatient = False
        """Whether a second signal came while they were held."""

    def __call__(self) -> None:
        self._let_through()

    @contextlib.contextmanager
    def hold(self) -> Iterator[None]:
        """Let a second signal wait, too: until a program has ended, which cannot be interrupted, and what it returns is
        known."""
        self.holding = True
        try:
            yield
        finally:
            self.holding = False
        if self.impatient:
            self()


@contextlib.contextmanager
def deferred_interrupts(agree: Callable[[int], int] | None = None, *, place: str | None = None) -> Iterator[Moments]:
    """Let Ctrl-C and SIGTERM wait for moments at which nothing is half done.

    A `KeyboardInterrupt` that is raised anywhere may fall between two assignments that belong together, and one that is
    raised inside a callback of the garbage collector, of which jax has some, is lost. A second signal does not wait,
    unless there are other processes, which would wait for this one forever.

    Handlers that a program has installed are called. Where SIGTERM has none, and would end the process at once, it
    raises a `KeyboardInterrupt` in here, so that the driver can save; at the end of this context the process then dies
    of the signal, as it would have without.

    **Arguments:**

    - `agree`: where many processes run the same program, a function that gives them the largest of their numbers. A
        signal to one of them then counts as one to all.
    - `place`: where the driver saves, for the line that says so when SIGTERM ends the process. Without it there is
        nothing to save, and a SIGTERM that has no handler is left alone.

    **Returns:**

    A context manager, which gives `Moments`: called, they handle a signal that waits. So does leaving the context
    without an error. Outside of the main thread, which alone handles signals, it does nothing.
    """
    before: dict[int, Any] = {}
    handlers: dict[int, Callable[[int, FrameType | None], Any]] = {}
    waiting: list[tuple[int, FrameType | None]] = []
    usual: dict[int, Any] = {signal.SIGINT: signal.default_int_handler, signal.SIGTERM: _terminate}

    def wait(number: int, frame: FrameType | None) -> None:
        if waiting and agree is None:
            if moments.holding:
                moments.impatient = True
            else:
                handlers[number](number, frame)
        waiting.append((number, frame))

    def let_through() -> None:
        number, frame = waiting.pop() if waiting else (0, None)
        number = number if agree is None else agree(number)
        if number:
            handle = handlers.get(number) or usual[number]
            handle(number, frame)

    moments = Moments(let_through)

    def restore() -> None:
        for number in list(before):
            signal.signal(number, before.pop(number))

    if threading.current_thread() is threading.main_thread():
        for number in (signal.SIGINT, signal.SIGTERM):
            handler = signal.getsignal(number)
            if number == signal.SIGTERM and handler == signal.SIG_DFL and place is not None:
                handlers[number] = _terminate
            elif callable(handler):
                handlers[number] = handler
            else:
                continue
            before[number] = handler
            signal.signal(number, wait)
    try:
        try:
            yield moments
        finally:
            restore()
        let_through()
    except _Terminated:
        _die(place)


def _die(place: str | None) -> None:
    """Die of SIGTERM as a program without a handler does, after a line that says what became of the work."""
    print(f"metaopt: SIGTERM; what was reached is saved in `{place}`. Go on with `resume=True`.", file=sys.stderr)
    sys.stdout.flush()
    sys.stderr.flush()
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.raise_signal(signal.SIGTERM)
