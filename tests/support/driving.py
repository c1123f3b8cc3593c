"""Requests sent to a server of a test, and their answers read."""

import socket

from project import ROOT

from enginebench.engines.address import Address
from enginebench.engines.dialect import GenerationRequest
from enginebench.engines.directory import load_engine
from enginebench.load import (
    calibrate,
    client,
    client_stats,
    http1,
    request_record,
    spec,
    workers,
)
from enginebench.load.script import Script

ASK = GenerationRequest((1, 2, 3, 4, 5), "five tokens", 3)
TOKENS = 4  # of each answer of the scripted server
QUICK = Script(first_s=0.002, pace_s=0.001)
DIALECT = load_engine(ROOT, "vllm").dialect


def drive(port, count, concurrency, timeout_s=10.0, **more):
    address = Address("127.0.0.1", port)
    requests = [
        http1.post(address, DIALECT.generate_path, DIALECT.body(ASK), f"r{index}")
        for index in range(count)
    ]
    return client.run_closed_loop(address, requests, concurrency, timeout_s, **more)


def read(took):
    return request_record.read(took, DIALECT, ASK, phase="measured", request_id=f"r{took.index}")


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def play(count, streams, script=QUICK, processes=1, tokens=TOKENS, timeout_s=20.0, **more):
    """A load on the scripted server.

    Returns:
        the result of the load, its records, the server's account, the client's own figures.
    """
    with calibrate.serving(script) as server:
        requests = [
            http1.post(server.address, "/v1/completions", {"max_tokens": tokens}, f"{index}")
            for index in range(count)
        ]
        sent = spec.LoadSpec(server.address, requests, streams, timeout_s=timeout_s, **more)
        with workers.run(sent, processes) as result:
            records = calibrate.records_of(result, tokens)
            stats = client_stats.figures(result)
        return result, records, server.stop(), stats


def in_flight(records):
    """The most requests in flight at once."""
    steps = sorted([(r.sent_s, 1) for r in records] + [(r.end_s, -1) for r in records])
    most = now = 0
    for _, step in steps:
        now += step
        most = max(most, now)
    return most
