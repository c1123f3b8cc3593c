"""Whether the declared variants took effect: what the started engine shows of itself."""

import math
import re
from collections.abc import Mapping

from enginebench.base.text import one_line
from enginebench.engines import http_page
from enginebench.engines.http_page import Page
from enginebench.engines.variants import Condition, Declared
from enginebench.launch.server import Server
from enginebench.metrics import metrics_page
from enginebench.record import schema

PAGE_TIMEOUT_S = 60.0  # a page of settings may gather facts of the machine first
PAGE_LIMIT_BYTES = 16 << 20
LONGEST_SHOWN = 200  # characters of what was found


def resolved(server: Server, parts: Mapping[str, Declared]) -> list[schema.Resolved]:
    """Every condition of the declared variants of an engine that is ready, judged.

    Args:
        parts: the declared variants, by name.
    """
    pages: dict[str, Page] = {}

    def page(path: str) -> Page:
        if path not in pages:  # asked once: some pages hand out a value only once
            pages[path] = http_page.fetch(server.url + path, PAGE_TIMEOUT_S, PAGE_LIMIT_BYTES)
        return pages[path]

    found = []
    for name, part in parts.items():
        for condition in part.resolved:
            path = server.engine.dialect.metrics_path if condition.metric else condition.page
            if path is None:
                holds, shown = judge(condition, server.log_text())
            elif page(path).is_good:
                holds, shown = judge(condition, page(path).text or "")
            else:
                holds, shown = False, page(path).error or f"HTTP {page(path).status} from {path}"
            found.append(
                schema.Resolved(
                    variant=name,
                    sets=part.sets,
                    expected=condition.expected,
                    found=one_line(shown)[:LONGEST_SHOWN],
                    holds=holds,
                )
            )
    return found


def judge(condition: Condition, text: str) -> tuple[bool, str]:
    """Whether a condition holds, and what was found.

    Args:
        text: of the log, or of the page that the condition is about.
    """
    if condition.metric:
        return _metric(condition.metric, condition.equals or "", text)
    pattern = condition.log or condition.no_log or condition.has or ""
    matches = list(re.finditer(pattern, text, re.MULTILINE))
    if condition.no_log:
        return not matches, _line(text, matches[0]) if matches else "no such line"
    if not matches:
        return False, "nothing like it"
    if condition.equals is None:
        return True, matches[0][0]
    values = list(dict.fromkeys(match[1] or "" for match in matches))
    return values == [condition.equals], ", ".join(values)


def _line(text: str, match: re.Match[str]) -> str:
    """The line in which a match begins."""
    start = text.rfind("\n", 0, match.start()) + 1
    return text[start:].partition("\n")[0]


def _metric(name: str, equals: str, text: str) -> tuple[bool, str]:
    """Whether every series of a metric, or its label, has this value."""
    name, _, label = name.rstrip("]").partition("[")
    samples = [sample for sample in metrics_page.parse(text) if sample.name == name]
    if label:
        values = [sample.labels.get(label, "no such label") for sample in samples]
        holds = all(value == equals for value in values)
    else:
        values = [f"{sample.value:g}" for sample in samples]
        holds = all(_number(equals) == sample.value for sample in samples)
    return bool(values) and holds, ", ".join(dict.fromkeys(values)) or "no such metric"


def _number(text: str) -> float:
    """NaN, which equals nothing, where it is none."""
    try:
        return float(text)
    except ValueError:
        return math.nan
