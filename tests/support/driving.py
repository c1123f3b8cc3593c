"""Requests in a dialect of ours sent to a server, and their answers read."""

import socket

from project import ROOT

from enginebench.engines.address import Address
from enginebench.engines.dialect import Ask
from enginebench.engines.directory import load_engine
from enginebench.load import event_loop, http1, request_record

ASK = Ask((1, 2, 3, 4, 5), "five tokens", 3)
DIALECT = load_engine(ROOT, "vllm").dialect


def drive(port, count, concurrency, timeout_s=10.0, **more):
    address = Address("127.0.0.1", port)
    requests = [
        http1.post(address, DIALECT.generate_path, DIALECT.body(ASK), f"r{index}")
        for index in range(count)
    ]
    return event_loop.run_closed_loop(address, requests, concurrency, timeout_s, **more)


def read(took):
    return request_record.read(took, DIALECT, ASK, phase="measured", request_id=f"r{took.index}")


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
