import json

import pytest
from driving import drive, free_port, read
from fake_server import FakeServer

from enginebench.engines.address import Address
from enginebench.load import http1, spec

pytestmark = pytest.mark.serial  # times are measured


def test_a_post_is_one_http_request_with_its_body():
    raw = http1.post(Address("127.0.0.1", 80), "/v1/x", {"prompt": "é"}, "r1")
    head, _, body = raw.partition(b"\r\n\r\n")
    assert json.loads(body) == {"prompt": "é"}
    first, *fields = head.decode().split("\r\n")
    assert first == "POST /v1/x HTTP/1.1"
    assert {f"Content-Length: {len(body)}", "Host: 127.0.0.1:80", "X-Request-Id: r1"} <= {*fields}


@pytest.mark.parametrize("concurrency", [1, 4])
def test_so_many_requests_are_in_flight_and_never_more(concurrency):
    with FakeServer(gather=concurrency) as server:
        found = drive(server.port, 12, concurrency)
    assert [took.fault for took in found] == [None] * 12
    assert server.most_in_flight == concurrency


def test_every_request_gets_its_own_answer_in_the_order_of_requests():
    with FakeServer() as server:
        found = drive(server.port, 10, 3)
    assert [took.index for took in found] == list(range(10))
    assert [read(took).text for took in found] == [f"r{i}.1 r{i}.2 r{i}.3 " for i in range(10)]
    assert [read(took).error for took in found] == [None] * 10
    assert sorted(server.request_ids) == sorted(f"r{index}" for index in range(10))


def test_a_single_stream_sends_in_order():
    with FakeServer() as server:
        drive(server.port, 5, 1)
    assert server.request_ids == ["r0", "r1", "r2", "r3", "r4"]


def test_connections_are_kept_and_used_again():
    with FakeServer() as server:
        drive(server.port, 9, 3)
    assert server.connections == 3


def test_there_are_no_more_connections_than_requests():
    with FakeServer() as server:
        assert len(drive(server.port, 2, 8)) == 2
    assert server.connections == 2


def test_no_requests_are_no_exchanges():
    assert drive(free_port(), 0, 4) == []


def test_a_server_that_closes_after_each_answer_is_connected_to_again():
    with FakeServer("close") as server:
        found = drive(server.port, 6, 2)
    assert [read(took).error for took in found] == [None] * 6
    assert server.connections == 6


def test_an_answer_that_comes_byte_by_byte_is_read_the_same():
    with FakeServer("bytewise") as server:
        found = drive(server.port, 4, 2)
    for took in found:
        record = read(took)
        assert (record.error, record.event_tokens, record.output_tokens) == (None, [1, 1, 1], 3)
        assert record.text == f"r{took.index}.1 r{took.index}.2 r{took.index}.3 "


def test_times_are_in_the_order_in_which_things_happen():
    with FakeServer() as server:
        found = drive(server.port, 8, 2)
    for took in found:
        arrivals = [time_s for time_s, _ in took.pieces]
        assert arrivals == sorted(arrivals)
        assert took.planned_s <= took.sent_s <= arrivals[0] <= arrivals[-1] <= took.end_s


def test_an_answer_cut_in_the_middle_is_a_fault_and_the_rest_goes_on():
    with FakeServer("cut") as server:
        found = drive(server.port, 4, 2)
    assert {took.fault for took in found} == {"the engine closed the connection before the end"}
    assert [read(took).output_tokens for took in found] == [1] * 4
    assert server.connections == 4


def test_an_http_error_is_an_answer_on_a_kept_connection():
    with FakeServer("error") as server:
        found = drive(server.port, 4, 1)
    assert [took.fault for took in found] == [None] * 4
    assert [read(took).error for took in found] == ["HTTP 500: no memory"] * 4
    assert server.connections == 1


def test_an_engine_that_never_answers_is_given_up_after_the_timeout():
    with FakeServer("silent") as server:
        found = drive(server.port, 3, 2, timeout_s=0.05)
    assert [took.fault for took in found] == ["timed out after 0.05 s"] * 3
    assert [took.pieces for took in found] == [[]] * 3
    assert all(took.sent_s < took.end_s for took in found)
    assert server.connections == 3  # what timed out is never used again


def test_garbage_is_a_fault_of_its_request_only():
    with FakeServer("garbage") as server:
        found = drive(server.port, 3, 1)
    assert {took.fault for took in found} == {
        "not an HTTP/1.1 response: b'SSH-2.0-OpenSSH_9.6\\r\\n'"
    }
    assert server.connections == 3


def test_a_refused_connection_is_recorded_for_every_request():
    found = drive(free_port(), 5, 2)
    assert len(found) == 5
    for took in found:
        assert took.fault.startswith("cannot connect: ")
        assert (took.sent_s, took.pieces) == (None, [])


def test_once_the_engine_is_gone_nothing_more_is_sent():
    with FakeServer("cut") as server:
        found = drive(server.port, 5, 1, engine_gone=lambda: "the engine was killed")
    assert server.request_ids == ["r0"]
    assert found[0].fault == "the engine closed the connection before the end"
    assert [took.fault for took in found[1:]] == ["not sent: the engine was killed"] * 4
    assert [took.sent_s for took in found[1:]] == [None] * 4


def test_whether_the_engine_is_gone_is_asked_only_after_a_fault():
    with FakeServer() as server:
        found = drive(server.port, 3, 1, engine_gone=lambda: "never true")
    assert [took.fault for took in found] == [None] * 3


def test_the_counts_for_a_display_end_at_all_done_and_none_in_flight():
    progress = spec.LoadProgress()
    with FakeServer() as server:
        found = drive(server.port, 6, 3, progress=progress)
    assert (progress.requests_done, progress.in_flight) == (6, 0)
    assert progress.pieces == sum(len(took.pieces) for took in found)
