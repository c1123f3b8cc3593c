"""How probable a started engine finds the prompts of the comparison of answers."""

import math
import time
from collections.abc import Sequence

import orjson

from enginebench.base.text import one_line
from enginebench.engines import http_page
from enginebench.engines.dialect import GenerationRequest, Scoring
from enginebench.plan.plan import Cell
from enginebench.record.schema import PromptScore
from enginebench.run.cell_run import RunningLaunch

ANSWER_BYTES, ANSWER_BYTES_A_TOKEN = 1 << 18, 4096  # no honest answer is as large
LEAST_NATS, MOST_NATS = -1e6, 1e-3  # of a log-probability; rounding may take it above 0
LONGEST_ERROR = 200


def run_scoring(launch: RunningLaunch, cell: Cell) -> None:
    """Have the prompts scored one at a time and record it; nothing of it is timed.

    An engine that gives no log-probabilities of a prompt is not asked. After the first failure the
    others are not asked either.
    """
    prepared, server, item = launch.prepared, launch.server, launch.item
    if (scoring := server.engine.dialect.scoring) is None:
        return
    launch.show.stage(f"{item.variant.label}: scoring {cell.requests} prompts for the perplexity")
    until_s = time.perf_counter() + prepared.study.request_timeout_s  # for all of them
    rows: list[PromptScore] = []
    for index, request in enumerate(prepared.work[cell.id].measured):
        found = _ask(server.url, scoring, request, until_s - time.perf_counter())
        error = found if isinstance(found, str) else None
        rows.append(
            PromptScore(
                index=index,
                prompt_sha256=request.prompt_sha256,
                tokens=len(request.prompt_ids) - 1,
                logprob_sum=None if isinstance(found, str) else math.fsum(found),
                error=error,
            )
        )
        if error is not None:
            break
    launch.writer.write_lines(f"raw/{item.id}/perplexity.jsonl", rows)


def _ask(
    url: str, scoring: Scoring, request: GenerationRequest, timeout_s: float
) -> Sequence[float] | str:
    """The log-probabilities, or why there are none."""
    limit = ANSWER_BYTES + ANSWER_BYTES_A_TOKEN * len(request.prompt_ids)
    try:
        content = orjson.dumps(scoring.body(request))
        page = http_page.fetch(url + scoring.path, timeout_s, limit, content)
        text = page.text or ""
        if not page.is_good:
            return _short(page.error or f"HTTP {page.status}: {text}")
        return logprobs(scoring.read(request, text), len(request.prompt_ids) - 1)
    except ValueError as error:
        return _short(str(error))
    except Exception as error:  # an engine.py met something that it did not expect
        return _short(f"{type(error).__name__}: {error}")


def logprobs(found: Sequence[object], count: int) -> list[float]:
    """Log-probabilities that an engine gave, once they are known to be some.

    Raises:
        ValueError: not so many, or one is no logarithm of a probability.
    """
    good = [
        float(value)
        for value in found
        if isinstance(value, int | float)
        and not isinstance(value, bool)
        and LEAST_NATS <= value <= MOST_NATS
    ]
    if len(good) != len(found) or len(good) != count:
        raise ValueError(f"expected {count} log-probabilities, found {len(good)} of {len(found)}")
    return good


def _short(text: str) -> str:
    return one_line(text)[:LONGEST_ERROR]
