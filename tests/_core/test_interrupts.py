import os
import signal
import threading

import pytest

import metaopt._core._interrupts as module
from metaopt._core._interrupts import deferred_interrupts


def interrupt(number=signal.SIGINT):
    os.kill(os.getpid(), number)


@pytest.fixture
def terminable():
    """Give SIGTERM a handler that counts; returns the counts."""
    calls = []
    before = signal.signal(signal.SIGTERM, lambda number, _: calls.append(number))
    yield calls
    signal.signal(signal.SIGTERM, before)


def test_an_interrupt_waits_for_its_moment():
    reached = []
    with pytest.raises(KeyboardInterrupt), deferred_interrupts() as let_through:
        let_through()
        interrupt()
        reached.append("after the signal")
        let_through()
        reached.append("after the moment")
    assert reached == ["after the signal"]
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_a_second_one_does_not_wait():
    reached = []
    with pytest.raises(KeyboardInterrupt), deferred_interrupts():
        interrupt()
        reached.append("first")
        interrupt()
        reached.append("second")
    assert reached == ["first"]


def test_one_that_still_waits_comes_at_the_end():
    reached = []
    with pytest.raises(KeyboardInterrupt):
        with deferred_interrupts():
            interrupt()
            reached.append("all")
    assert reached == ["all"]


def test_an_error_comes_before_what_waits():
    with pytest.raises(ValueError, match="mine"), deferred_interrupts():
        interrupt()
        raise ValueError("mine")
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_other_handlers_are_called_once_per_signal(terminable):
    with deferred_interrupts() as let_through:
        interrupt(signal.SIGTERM)
        assert terminable == []
        let_through()
        let_through()
        assert terminable == [signal.SIGTERM]
        interrupt(signal.SIGTERM)
    assert terminable == [signal.SIGTERM] * 2


@pytest.fixture
def deaths(monkeypatch):
    """What the process would have died of; returns where it had saved."""
    places = []
    monkeypatch.setattr(module, "_die", places.append)
    return places


def test_a_sigterm_without_a_handler_ends_the_process_after_all_is_saved(deaths):
    reached = []
    with deferred_interrupts(place="file") as let_through:
        interrupt(signal.SIGTERM)
        reached.append("after the signal")
        try:
            let_through()
            reached.append("too far")
        except KeyboardInterrupt:
            reached.append("saved")
            raise
    assert reached == ["after the signal", "saved"] and deaths == ["file"]
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    with deferred_interrupts(place="other"):
        interrupt(signal.SIGTERM)
    assert deaths == ["file", "other"]


def test_a_second_sigterm_without_a_handler_does_not_wait(deaths):
    with deferred_interrupts(place="file"):
        interrupt(signal.SIGTERM)
        interrupt(signal.SIGTERM)
        deaths.append("too late")
    assert deaths == ["file"]


def test_a_sigterm_that_is_ignored_stays_ignored(deaths):
    before = signal.signal(signal.SIGTERM, signal.SIG_IGN)
    try:
        with deferred_interrupts(place="file") as let_through:
            interrupt(signal.SIGTERM)
            let_through()
    finally:
        signal.signal(signal.SIGTERM, before)
    assert deaths == []


def test_a_handler_of_the_program_comes_first(terminable, deaths):
    with deferred_interrupts(place="file"):
        interrupt(signal.SIGTERM)
    assert terminable == [signal.SIGTERM] and deaths == []


def test_an_error_while_saving_is_not_hidden(deaths):
    with pytest.raises(OSError, match="full"), deferred_interrupts(place="file") as let_through:
        interrupt(signal.SIGTERM)
        try:
            let_through()
        except KeyboardInterrupt as interrupted:
            raise OSError("full") from interrupted
    assert deaths == []


def test_a_sigterm_to_another_process_ends_this_one(deaths):
    with deferred_interrupts(lambda own: signal.SIGTERM, place="folder") as let_through:
        let_through()
    assert deaths == ["folder"]


def test_a_signal_without_a_handler_is_left_alone_where_nothing_is_saved():
    before = signal.getsignal(signal.SIGTERM)
    with deferred_interrupts():
        assert signal.getsignal(signal.SIGTERM) is before is signal.SIG_DFL


def test_other_threads_do_without():
    found = []

    def work():
        with deferred_interrupts() as let_through:
            let_through()
            found.append(signal.getsignal(signal.SIGINT))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert found == [signal.default_int_handler]


def test_a_signal_to_another_process_counts_as_one_to_this():
    others = [0, signal.SIGINT]
    reached = []
    with pytest.raises(KeyboardInterrupt), deferred_interrupts(lambda own: max(own, others.pop(0))) as let_through:
        let_through()
        reached.append("nothing yet")
        let_through()
        reached.append("too far")
    assert reached == ["nothing yet"]


def test_with_other_processes_all_signals_wait():
    reached = []
    with pytest.raises(KeyboardInterrupt), deferred_interrupts(lambda own: own) as let_through:
        interrupt()
        interrupt()
        reached.append("both")
        let_through()
        reached.append("too far")
    assert reached == ["both"]


def test_all_processes_are_asked_at_the_end():
    asked = []
    with deferred_interrupts(lambda own: asked.append(own) or 0) as let_through:
        let_through()
    assert asked == [0, 0]
