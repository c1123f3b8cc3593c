"""Whether the engine's own counters agree with what the client saw. Pure."""

from collections.abc import Iterator

import numpy as np

from enginebench.check.findings import Finding
from enginebench.metrics import metrics_page
from enginebench.metrics.figures import Figures
from enginebench.metrics.request_table import UNKNOWN, Columns


def cut_off_findings(has_launch: bool, pages: int) -> Iterator[Finding]:
    """A cell whose counters nobody can check is not as good as one whose counters agree.

    Args:
        has_launch: whether the end of its engine's start was recorded, with the metrics' names.
        pages: readings of the metrics page that were recorded.
    """
    why = None
    if not has_launch:
        why = "its engine's start was cut off (it has no launch.json)"
    elif not pages:
        why = "no reading of its engine's metrics was recorded"
    if why is not None:
        text = f"{why}: the counters were not checked"
        yield Finding("counters", "suspect", text, None, "run it again with --resume")


def counter_findings(
    requests: Columns, first: Figures, last: Figures, cached_permitted: int = 0
) -> Iterator[Finding]:
    """The engine's own counters, read right before and after the requests.

    A metric that the dialect does not map is not in ``first`` and is skipped; one that is mapped
    and was not read is None, and then the cell is suspect.

    Args:
        cached_permitted: tokens of a prompt that may come from a prefix cache.
    """
    wanted = ("output_tokens_total", "prompt_tokens_total", "prefix_hit_tokens_total")
    unread = [name for name in wanted if name in first]
    unread = [name for name in unread if first[name] is None or last.get(name) is None]
    if unread:
        text = f"the engine's counters could not be read: {', '.join(unread)}"
        yield Finding("counters", "suspect", text, None, "look at scrapes.jsonl.gz of the cell")
    fallen = [
        name
        for name in wanted
        if (start := first.get(name)) is not None and (last.get(name) or 0.0) < start
    ]
    if fallen and not unread:
        text = f"the engine's counters fell: {', '.join(fallen)}"
        yield Finding("counters", "suspect", text, None, "was it restarted? see server.log")
    if not requests.is_failed.any():
        for counter, counts in (
            ("output_tokens_total", requests.output_tokens),
            ("prompt_tokens_total", requests.prompt_tokens),
        ):
            grown = metrics_page.difference(first, last, counter)
            if grown is None or (counts == UNKNOWN).any():
                continue
            seen = int(counts.sum(dtype=np.int64))
            if grown != seen:
                text = f"the engine's {counter} grew by {grown:.0f}, the client counted {seen}"
                yield Finding(
                    "counters", "invalid", text, None, "is anybody else using this engine?"
                )
    hits = metrics_page.difference(first, last, "prefix_hit_tokens_total")
    most = cached_permitted * len(requests)
    if hits and hits > most:
        text, advice = "that should be off", "turn the prefix cache off in launch.yaml"
        if cached_permitted:
            text = f"by the engine's counter, {most} at most are alike in these prompts"
            advice = "is anybody else using this engine?"
        yield Finding(
            "cache", "invalid", f"{hits:.0f} prompt tokens came from a prefix cache {text}",
            None, advice,
        )  # fmt: skip
