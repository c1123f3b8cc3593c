"""One load in several processes."""

import multiprocessing
import socket
import threading
import time
from collections import Counter

import pytest
from driving import TOKENS, in_flight, play
from fake_server import FakeServer

from enginebench.base.errors import UserError
from enginebench.engines.address import Address
from enginebench.load import http1, spec, workers

pytestmark = pytest.mark.serial  # times are measured


@pytest.mark.parametrize("due_s", [None, [k * 0.001 for k in range(40)]], ids=["closed", "open"])
def test_several_processes_share_the_load_and_their_results_are_one(due_s):
    result, records, served, stats = play(40, 8, processes=2, due_s=due_s)
    assert [r.index for r in records] == list(range(40))
    assert {r.error for r in records} == {None}
    assert {r.text for r in records} == {" tok" * TOKENS}
    assert Counter(s.request_id for s in served) == Counter(f"{k}" for k in range(40))
    assert (stats.processes, stats.streams, len(result.stats)) == (2, 8, 2)
    assert in_flight(records) <= 8
    starts = {one.started_s for one in result.stats}
    assert len(starts) == 1  # one moment for all


def test_processes_that_cannot_connect_still_give_every_request_its_record():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    address = Address("127.0.0.1", port)
    requests = [http1.post(address, "/", {}, f"{k}") for k in range(10)]
    progress = spec.LoadProgress()
    with workers.run(spec.LoadSpec(address, requests, 4), 2, progress) as result:
        assert Counter(e.kind for e in result.exchanges) == {"refused": 10}
    assert progress.requests_done == 10


def test_once_the_engine_is_gone_the_processes_give_up_what_is_left():
    # Each answer takes 2 ms at least, so that all of them would take two seconds; the processes
    # learn that the engine is gone after a tenth of one.
    with FakeServer("cut") as server:
        address = Address("127.0.0.1", server.port)
        requests = [http1.post(address, "/", {}, f"{k}") for k in range(2_000)]
        with workers.run(
            spec.LoadSpec(address, requests, 2), 2, engine_gone=lambda: "it is gone"
        ) as result:
            kinds = Counter(e.kind for e in result.exchanges)
            left = [e for e in result.exchanges if e.kind == "not sent"]
    assert set(kinds) == {"cut", "not sent"}
    assert sum(kinds.values()) == 2_000
    assert kinds["cut"] == len(server.request_ids)  # and nothing else was sent
    assert {(e.fault, e.sent_s) for e in left} == {("not sent: the engine is gone", None)}


def test_a_process_of_the_load_generator_that_is_killed_ends_the_load_in_one_line():
    def kill_one():
        while not (children := multiprocessing.active_children()):
            time.sleep(0.01)
        children[0].kill()

    killer = threading.Thread(target=kill_one)
    killer.start()
    with FakeServer("silent") as server:
        address = Address("127.0.0.1", server.port)
        requests = [http1.post(address, "/", {}, f"{k}") for k in range(4)]
        sent = spec.LoadSpec(address, requests, 4, timeout_s=20)
        words = r"expected results from 2 processes, found that one ended"
        with pytest.raises(UserError, match=words), workers.run(sent, 2):
            pass
    killer.join()
    assert multiprocessing.active_children() == []


def test_shares_of_a_load_are_whole_and_apart():
    sent = spec.LoadSpec(
        Address("h", 1), [b"a", b"b", b"c", b"d", b"e"], 3, range(5), cancel_after_s={3: 9}
    )
    one, two = workers.split(sent, 2)
    assert (one.requests, two.requests) == ([b"a", b"c", b"e"], [b"b", b"d"])
    assert (one.streams, two.streams) == (2, 1)
    assert (one.due_s, two.due_s) == ([0, 2, 4], [1, 3])
    assert (one.cancel_after_s, two.cancel_after_s) == ({}, {1: 9})
