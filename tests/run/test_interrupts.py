"""Interrupts that arrive while an engine starts or stops."""

import signal

import pytest

from enginebench.run.interrupts import DeferredInterrupts

NUMBERS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@pytest.fixture(autouse=True)
def handlers():
    before = {number: signal.getsignal(number) for number in NUMBERS}
    signal.signal(signal.SIGINT, signal.default_int_handler)
    yield before
    for number, handler in before.items():
        signal.signal(number, handler)


def start(interrupts, count):
    """An engine is started, and this many interrupts arrive meanwhile."""
    with interrupts.defer():
        for _ in range(count):
            signal.raise_signal(signal.SIGINT)


def test_an_interrupt_is_raised_when_the_block_ends_and_the_handlers_are_those_of_before():
    with pytest.raises(KeyboardInterrupt):
        start(DeferredInterrupts(), 1)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_one_interrupt_is_not_urgent_until_another_arrives():
    interrupts = DeferredInterrupts()
    with pytest.raises(KeyboardInterrupt):
        start(interrupts, 1)
    with pytest.raises(KeyboardInterrupt), interrupts.defer():
        assert not interrupts.is_urgent()
        signal.raise_signal(signal.SIGINT)
        assert interrupts.is_urgent()


def test_two_interrupts_during_the_start_make_the_stop_urgent():
    interrupts = DeferredInterrupts()
    with pytest.raises(KeyboardInterrupt):
        start(interrupts, 2)
    with interrupts.defer():
        assert interrupts.is_urgent()


def test_the_interrupts_of_one_engine_do_not_make_the_next_ones_stop_urgent():
    with pytest.raises(KeyboardInterrupt):
        start(DeferredInterrupts(), 2)
    following = DeferredInterrupts()
    with following.defer():
        assert not following.is_urgent()


def test_a_hangup_is_deferred_as_the_others_are(handlers):
    arrived = []
    signal.signal(signal.SIGHUP, lambda number, _: arrived.append(number))
    with DeferredInterrupts().defer():
        signal.raise_signal(signal.SIGHUP)
        assert arrived == []
    assert arrived == [signal.SIGHUP]


def test_a_hangup_that_nohup_ignores_stays_ignored():
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    with DeferredInterrupts().defer():
        assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
        signal.raise_signal(signal.SIGHUP)
