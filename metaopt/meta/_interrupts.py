"""Interrupts at the right moment."""

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator
from types import FrameType


@contextlib.contextmanager
def deferred_interrupts(agree: Callable[[int], int] | None = None) -> Iterator[Callable[[], None]]:
    """Let Ctrl-C, and SIGTERM where it has a handler, wait for moments at which nothing is half done.

    A `KeyboardInterrupt` that is raised anywhere may fall between two assignments that belong together, and one that is
    raised inside a callback of the garbage collector, of which jax has some, is lost. A second signal does not wait,
    unless there are other processes, which would wait for this one forever.

    **Arguments:**

    - `agree`: where many processes run the same program, a function that gives them the largest of their numbers. A
        signal to one of them then counts as one to all.

    **Returns:**

    A context manager, which gives a function to call at such moments: it handles a signal that waits. So does leaving
    the context without an error. Outside of the main thread, which alone handles signals, it does nothing.
    """
    handlers: dict[int, Callable[[int, FrameType | None], object]] = {}
    waiting: list[tuple[int, FrameType | None]] = []

    def wait(number: int, frame: FrameType | None) -> None:
        if waiting and agree is None:
            handlers[number](number, frame)
        waiting.append((number, frame))

    def let_through() -> None:
        number, frame = waiting.pop() if waiting else (0, None)
        number = number if agree is None else agree(number)
        if number:
            handlers.get(number, signal.default_int_handler)(number, frame)

    if threading.current_thread() is threading.main_thread():
        for number in (signal.SIGINT, signal.SIGTERM):
            handler = signal.getsignal(number)
            if callable(handler):
                handlers[number] = handler
                signal.signal(number, wait)
    try:
        yield let_through
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
    let_through()
