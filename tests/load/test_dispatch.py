"""Which request goes to which stream, and when: without sockets and clocks."""

from enginebench.engines.address import Address
from enginebench.load.connection import Stream
from enginebench.load.deadlines import Deadlines
from enginebench.load.dispatch import Dispatcher
from enginebench.load.exchange import Exchange
from enginebench.load.spec import LoadSpec


def dispatcher(requests, streams, **more):
    exchanges = [Exchange(index) for index in range(requests)]
    load = LoadSpec(Address("h", 1), [b""] * requests, streams, **more)
    made = Dispatcher(load, exchanges, [Stream() for _ in range(streams)])
    made.start(100.0)
    return made


def begun(made):
    """The requests that have a free stream now, by index."""
    found = []
    while (pair := made.next()) is not None:
        found.append(pair)
    return [exchange.index for _, exchange in found], [stream for stream, _ in found]


def test_a_closed_loop_gives_each_stream_its_next_request_when_it_is_free():
    made = dispatcher(4, 2)
    assert made.join(100.0) is None  # without a ramp both streams join at once
    indices, streams = begun(made)
    assert indices == [0, 1]
    made.release(streams[1])
    assert begun(made) == ([2], [streams[1]])


def test_a_ramp_lets_the_streams_join_evenly():
    made = dispatcher(4, 4, ramp_s=2.0)  # at 100, 100.5, 101 and 101.5
    assert made.join(100.0) == 100.5
    assert begun(made)[0] == [0]
    assert made.join(101.2) == 101.5
    assert begun(made)[0] == [1, 2]


def test_in_an_open_loop_a_request_waits_for_its_time_and_then_for_a_stream():
    made = dispatcher(3, 1, due_s=[0.0, 1.0, 1.5])
    assert made.join(100.0) == 101.0
    indices, (stream,) = begun(made)
    assert indices == [0]
    assert made.join(101.6) is None
    assert begun(made)[0] == []  # both are due, but the stream is in use
    stream.free_s = 101.6
    made.release(stream)
    _, exchange = made.next()
    assert (exchange.index, exchange.planned_s, exchange.ready_s) == (1, 101.0, 101.6)


def test_giving_up_drops_what_waits_and_what_is_not_yet_due_and_nothing_that_was_begun():
    made = dispatcher(5, 1, due_s=[0.0, 0.1, 0.2, 3.0, 4.0])
    made.join(100.5)  # three are due
    assert begun(made)[0] == [0]
    assert [exchange.index for exchange in made.give_up()] == [1, 2, 3, 4]
    assert made.give_up() == []
    assert made.join(200.0) is None


def test_giving_up_within_a_ramp_drops_what_no_stream_has_begun():
    made = dispatcher(5, 4, ramp_s=4.0)
    made.join(101.0)
    assert begun(made)[0] == [0, 1]
    assert [exchange.index for exchange in made.give_up()] == [2, 3, 4]
    assert made.join(200.0) is None


def test_a_deadline_that_was_met_is_not_missed():
    deadlines, stream = Deadlines(), Stream()
    first, second = Exchange(0), Exchange(1)
    stream.exchange = first
    deadlines.add(10.0, stream, "timeout", "first")
    stream.exchange = second
    deadlines.add(11.0, stream, "timeout", "second")
    assert list(deadlines.missed(9.0)) == []
    # At 12 both moments have passed, but the first exchange had ended before.
    assert list(deadlines.missed(12.0)) == [(stream, "timeout", "second")]
    assert list(deadlines.missed(12.0)) == []


def test_a_connection_that_is_open_has_met_its_deadline():
    deadlines, stream = Deadlines(), Stream()
    for state in ("connecting", "open"):
        stream.state = "connecting"
        deadlines.add(1.0, stream, "refused", "cannot connect")
        stream.state = state
        missed = [kind for _, kind, _ in deadlines.missed(2.0)]
        assert missed == (["refused"] if state == "connecting" else [])
