"""The load generator's own error, measured before a study against a server whose times are known.

The scripted server gets a core to itself where there are two or more; the client has the others.
Beside an engine the client gets less CPU time: ``client_stats.py`` measures that in every cell.
"""

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from enginebench.base.errors import UserError
from enginebench.engines.address import Address
from enginebench.engines.dialect import Dialect, GenerationRequest
from enginebench.engines.openai_completions import read_completions_event
from enginebench.hardware import machine
from enginebench.load import client, client_stats, http1, spec
from enginebench.load.exchange import Spool
from enginebench.load.request_record import RequestRecord, read
from enginebench.load.script import Script, Served, read_log
from enginebench.plan import plan
from enginebench.plan.plan import Plan

FIRST_S = 0.03
PACES_S = (0.001, 0.02)  # least and most time between tokens; more would give too few tokens
MOST_STREAMS = 1024  # in one level
MOST_LEVELS = 6
SHARE_OF_A_CORE = 0.6  # that one client process may use; above it another one is started

DIALECT = Dialect("/v1/completions", lambda ask: {}, read_completions_event, {})


@dataclass(frozen=True, slots=True)
class Level:
    """A load that the study will ask of the client."""

    streams: int
    tokens_per_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientErrors:
    """The client's times against the server's own account."""

    ttft_error_s_p50: float  # the client's TTFT minus the server's
    ttft_error_s_p99: float
    itl_error_s_p99: float  # difference of the client's gaps from the server's
    token_delay_s_p50: float  # from the server's sending of a token to its stamp
    token_delay_s_p99: float
    server_late_s_p99: float  # lateness of the server itself


@dataclass(frozen=True, slots=True, kw_only=True)
class Calibration(ClientErrors):
    """The client's error at one level."""

    streams: int
    tokens_per_s: float  # the server's nominal rate
    tokens: int
    has_own_core: bool  # the server did not share a core with the client
    stamps: str | None  # who stamped the arrivals: kernel, client, both
    busy_ratio: float | None  # as in client_stats.ClientFigures
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
        """Stop it; returns its own account of every request, in the order of arrival."""
        self.process.terminate()
        self.process.wait()
        return read_log(self.log)


@contextlib.contextmanager
def serving(script: Script, cpu: int | None = None) -> Iterator[Running]:
    """A scripted server in a process of its own, on a given CPU.

    Raises:
        UserError: it did not start.
    """
    # Without a name, so that nothing is left of them, however this process ends.
    script_file, log = Spool(), Spool()
    script_file.keep(bytearray(script.to_json().encode()))
    module = "enginebench.load.scripted_server"
    command = [sys.executable, "-P", "-m", module, str(script_file.path), str(log.path)]
    command += [] if cpu is None else [str(cpu)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        port = process.stdout.readline()
        if not port:
            raise UserError(
                "calibration: expected the scripted server to start, found that it did not; "
                "run it by hand to see why: python -m enginebench.load.scripted_server"
            )
        yield Running(int(port), process, log.path)
    finally:
        process.kill()
        process.wait()
        script_file.close()
        log.close()
        if process.stdout is not None:
            process.stdout.close()


@contextlib.contextmanager
def reserved_cpu() -> Iterator[int | None]:
    """Keep this thread off one CPU, for the server; None where there is only one CPU."""
    cpus = machine.cpus()
    if len(cpus) < 2:
        yield None
        return
    os.sched_setaffinity(0, cpus[:-1])
    try:
        yield cpus[-1]
    finally:
        os.sched_setaffinity(0, cpus)


def study(study_plan: Plan, seconds: float) -> list[Calibration]:
    """Calibrate at each level of a study, for ``seconds`` each; not at all for 0 seconds."""
    chosen = levels(study_plan)
    if not seconds or not chosen:
        return []
    with reserved_cpu() as cpu:
        return [measure(level, seconds, cpu) for level in chosen]


def levels(study_plan: Plan) -> list[Level]:
    """The study's levels, each at the highest rate that any engine is expected to reach.

    At most ``MOST_LEVELS``, those with the most streams.
    """
    rates: dict[int, float] = {}
    for launch in study_plan.launches:
        for cell in launch.cells:
            rate = plan.tokens_per_s(launch, cell)
            if cell.rate is not None:
                rate = min(rate, cell.rate * cell.workload.mean_output)
            streams = min(cell.concurrency, MOST_STREAMS)
            rates[streams] = max(rates.get(streams, 0.0), rate)
    return [Level(streams, rate) for streams, rate in sorted(rates.items())][-MOST_LEVELS:]


def measure(level: Level, seconds: float, cpu: int | None) -> Calibration:
    """Run one level for about ``seconds``: two requests per stream.

    Raises:
        UserError: the server did not start, or was not reached.
    """
    pace_s = min(max(level.streams / level.tokens_per_s, PACES_S[0]), PACES_S[1])
    tokens = max(round((seconds / 2 - FIRST_S) / pace_s), 2)
    with serving(Script(first_s=FIRST_S, pace_s=pace_s), cpu) as server:
        requests = [
            http1.post(server.address, DIALECT.generate_path, {"max_tokens": tokens}, f"{index}")
            for index in range(2 * level.streams)
        ]
        load = spec.LoadSpec(server.address, requests, level.streams, timeout_s=10 * seconds + 10)
        with client.run(load) as result:
            records = records_of(result, tokens)
            stats = client_stats.figures(result)
        served = server.stop()
    return Calibration(
        streams=level.streams,
        tokens_per_s=level.streams / pace_s,
        tokens=tokens * len(requests),
        has_own_core=cpu is not None,
        stamps=stats.stamps,
        busy_ratio=stats.busy_ratio,
        cpu_per_token_s=stats.cpu_s / (tokens * len(requests)),
        **asdict(errors(records, served)),
    )


def records_of(result: spec.LoadResult, tokens: int) -> list[RequestRecord]:
    """The records of a load on the scripted server."""
    request = GenerationRequest((), "", tokens)
    return [
        read(e, DIALECT, request, phase="measured", request_id=str(e.index))
        for e in result.exchanges
    ]


def errors(records: Sequence[RequestRecord], served: Sequence[Served]) -> ClientErrors:
    """The client's error over the requests without an error.

    Raises:
        UserError: there is no such request.
    """
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
            "calibration: expected answers from the scripted server on 127.0.0.1, found none; "
            "check that no firewall filters loopback traffic"
        )
    delay, gap = np.concatenate(delays), np.concatenate(gaps)
    return ClientErrors(
        ttft_error_s_p50=float(np.percentile(ttft, 50)),
        ttft_error_s_p99=float(np.percentile(ttft, 99)),
        itl_error_s_p99=float(np.percentile(gap, 99)),
        token_delay_s_p50=float(np.percentile(delay, 50)),
        token_delay_s_p99=float(np.percentile(delay, 99)),
        server_late_s_p99=float(np.percentile(np.concatenate(late), 99)),
    )


def processes(calibration: Sequence[Calibration], tokens_per_s: float, cpus: int) -> int:
    """Client processes for a rate: one per ``SHARE_OF_A_CORE`` that it costs; at most ``cpus``."""
    if not calibration:
        return 1
    cost_s = min(level.cpu_per_token_s for level in calibration)  # small levels cost more per token
    return max(1, min(int(-(-tokens_per_s * cost_s // SHARE_OF_A_CORE)), cpus))
