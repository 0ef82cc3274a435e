import os
import signal
import threading

import pytest

from metaopt.meta._interrupts import deferred_interrupts


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


def test_a_signal_without_a_handler_is_left_alone():
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
