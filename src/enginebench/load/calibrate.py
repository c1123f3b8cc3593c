"""The load generator against a server whose times are known, before a study: its error budget.

The scripted server has a core to itself where there are two; the client has the others. Engines
leave the client less room: what it says of itself in every cell (``client.py``) tells how much.
"""

import contextlib
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from enginebench.base.errors import UserError
from enginebench.engines.address import Address
from enginebench.engines.dialect import Dialect, GenerationRequest
from enginebench.engines.openai_completions import read_completions_event
from enginebench.hardware import machine
from enginebench.load import client_stats, event_loop, http1, spec
from enginebench.load.request_record import RequestRecord, read
from enginebench.load.scripted_server import Script, Served, read_log
from enginebench.plan import plan
from enginebench.plan.plan import Plan

FIRST_S = 0.03
PACES_S = (0.001, 0.02)  # between an engine's fastest steps and what gives enough tokens
MOST_STREAMS = 1024  # of a level that is calibrated
MOST_LEVELS = 6
SHARE_OF_A_CORE = 0.6  # of one process: beyond it another one is started

DIALECT = Dialect("/v1/completions", lambda ask: {}, read_completions_event, {})


@dataclass(frozen=True, slots=True)
class Level:
    """A load that the study will put on the client."""

    streams: int
    tokens_per_s: float


@dataclass(frozen=True, slots=True)
class Calibration:
    """The client's error at one level; times in seconds."""

    streams: int
    tokens_per_s: float  # as the server was asked to make them
    tokens: int
    has_own_core: bool  # the server did not share a core with the client
    stamps: str | None  # whose stamps the arrivals have: kernel, client, both
    ttft_error_s_p50: float  # the client's TTFT above the server's own account
    ttft_error_s_p99: float
    itl_error_s_p99: float  # distance of the client's gaps from the server's own
    token_delay_s_p50: float  # from the server's sending of a token to its stamp
    token_delay_s_p99: float
    server_late_s_p99: float  # what the server itself was late
    busy_ratio: float | None  # share of the streams' time with a request in flight
    cpu_per_token_s: float


@dataclass(slots=True)
class Running:
    """A started scripted server."""

    port: int
    process: "subprocess.Popen[str]"
    log: Path

    @property
    def address(self) -> Address:
        return Address("127.0.0.1", self.port)

    def stop(self) -> list[Served]:
        """End it; its own account of every request, in the order of arrival."""
        self.process.terminate()
        self.process.wait()
        return read_log(self.log)


@contextlib.contextmanager
def serving(script: Script, cpu: int | None = None) -> Iterator[Running]:
    """A scripted server in a process of its own, on a given processor."""
    with tempfile.TemporaryDirectory(prefix="enginebench-") as name:
        file, log = Path(name) / "script.json", Path(name) / "log"
        file.write_text(script.to_json())
        command = [
            sys.executable,
            "-P",
            "-m",
            "enginebench.load.scripted_server",
            str(file),
            str(log),
        ]
        command += [] if cpu is None else [str(cpu)]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        try:
            assert process.stdout is not None
            port = process.stdout.readline()
            if not port:
                raise UserError(
                    "the calibration server did not start; run it by hand to see why: "
                    "python -m enginebench.load.scripted_server"
                )
            yield Running(int(port), process, log)
        finally:
            process.kill()
            process.wait()
            if process.stdout is not None:
                process.stdout.close()


@contextlib.contextmanager
def apart() -> Iterator[int | None]:
    """Keep this thread off one processor, which is given; None where there is only one."""
    cpus = machine.cpus()
    if len(cpus) < 2:
        yield None
        return
    os.sched_setaffinity(0, cpus[:-1])
    try:
        yield cpus[-1]
    finally:
        os.sched_setaffinity(0, cpus)


def study(made: Plan, seconds: float) -> list[Calibration]:
    """Calibrate at the levels of a study, so many seconds each; at none for 0 seconds."""
    chosen = levels(made)
    if not seconds or not chosen:
        return []
    with apart() as cpu:
        return [measure(level, seconds, cpu) for level in chosen]


def levels(made: Plan) -> list[Level]:
    """The study's different levels, at the highest rate that any engine is expected to reach."""
    rates: dict[int, float] = {}
    for launch in made.launches:
        for cell in launch.cells:
            rate = plan.tokens_per_s(launch, cell)
            if cell.rate is not None:
                rate = min(rate, cell.rate * cell.workload.mean_output)
            streams = min(cell.concurrency, MOST_STREAMS)
            rates[streams] = max(rates.get(streams, 0.0), rate)
    found = [Level(streams, rate) for streams, rate in sorted(rates.items())]
    return found[-MOST_LEVELS:]


def measure(level: Level, seconds: float, cpu: int | None) -> Calibration:
    """Run one level: two requests a stream, for about so many seconds."""
    pace_s = min(max(level.streams / level.tokens_per_s, PACES_S[0]), PACES_S[1])
    tokens = max(round((seconds / 2 - FIRST_S) / pace_s), 2)
    with serving(Script(first_s=FIRST_S, pace_s=pace_s), cpu) as server:
        requests = [
            http1.post(server.address, DIALECT.generate_path, {"max_tokens": tokens}, f"{index}")
            for index in range(2 * level.streams)
        ]
        sent = spec.LoadSpec(server.address, requests, level.streams, timeout_s=10 * seconds + 10)
        with event_loop.run(sent) as taken:
            records = records_of(taken, tokens)
            own = client_stats.figures(taken)
        served = server.stop()
    found = errors(records, served)
    return Calibration(
        streams=level.streams,
        tokens_per_s=level.streams / pace_s,
        tokens=tokens * len(requests),
        has_own_core=cpu is not None,
        stamps=own["stamps"],
        busy_ratio=own["busy_ratio"],
        cpu_per_token_s=own["cpu_s"] / (tokens * len(requests)),
        **found,
    )


def records_of(taken: spec.LoadResult, tokens: int) -> list[RequestRecord]:
    """The requests of a load on the scripted server, read."""
    ask = GenerationRequest((), "", tokens)
    return [
        read(e, DIALECT, ask, phase="measured", request_id=str(e.index)) for e in taken.exchanges
    ]


def errors(records: Sequence[RequestRecord], served: Sequence[Served]) -> Mapping[str, Any]:
    """The client's times against the server's own account, over the requests that ended well."""
    accounts = {account.request_id: account for account in served}
    ttft, gaps, delays, late = [], [], [], []
    for record in records:
        account = accounts.get(record.request_id)
        if account is None or record.error or len(record.event_s) != len(account.sent_s):
            continue
        events, sent = np.asarray(record.event_s), np.asarray(account.sent_s)
        assert record.sent_s is not None
        # Both trips: the request's to the server, and the first token's back.
        ttft.append(account.arrived_s - record.sent_s + events[0] - sent[0])
        gaps.append(np.abs(np.diff(events) - np.diff(sent)))
        delays.append(events - sent)
        late.append(sent - np.asarray(account.due_s))
    if not ttft:
        raise UserError(
            "the calibration server was not reached; is loopback traffic filtered here?"
        )
    delay, gap = np.concatenate(delays), np.concatenate(gaps)
    return {
        "ttft_error_s_p50": float(np.percentile(ttft, 50)),
        "ttft_error_s_p99": float(np.percentile(ttft, 99)),
        "itl_error_s_p99": float(np.percentile(gap, 99)),
        "token_delay_s_p50": float(np.percentile(delay, 50)),
        "token_delay_s_p99": float(np.percentile(delay, 99)),
        "server_late_s_p99": float(np.percentile(np.concatenate(late), 99)),
    }


def processes(calibration: Sequence[Calibration], tokens_per_s: float, cpus: int) -> int:
    """Client processes for a rate: one, unless it would take more than a share of a core."""
    if not calibration:
        return 1
    cost_s = min(found.cpu_per_token_s for found in calibration)  # small levels cost more a token
    return max(1, min(int(-(-tokens_per_s * cost_s // SHARE_OF_A_CORE)), cpus))
