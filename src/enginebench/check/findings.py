"""What a check finds, and what the findings make of a cell. Pure.

A cell is *valid*, *suspect* (something needs an explanation) or *invalid* (something is wrong),
with reasons and what to do next. Invalid cells are shown, never dropped, and in no average.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

Verdict = Literal["valid", "suspect", "invalid"]

#: The checks in the order of the report's parity table.
CHECKS: Mapping[str, str] = {
    "record": "every raw file is as it was recorded",
    "complete": "every planned request was recorded and ended without an error",
    "effect": "all that the variant turns on or off took effect in the started engine",
    "output": "exactly the output tokens asked for",
    "prompt": "exactly the prompt tokens sent",
    "finish": "ended by length, not by a stop",
    "stream": "streamed tokens add up to the usage",
    "text": "the text has about as many tokens as the usage says",
    "different": "different prompts, different answers",
    "cache": "no prompt token from a cache",
    "answers": "greedy answers are the reference engine's in the same dtype, but for near ties",
    "client": "the client's own error could not change what the cell says",
    "counters": "the engine's counters grew by what the client saw",
    "silence": "no time without any token, far longer than the cell's own gaps",
    "machine": "no other process disturbed the cell",
    "clock": "times are in order and two clocks agree",
    "physics": "not faster than the hardware allows",
    "kv": "no more tokens in generation than the KV cache holds",
    "energy": "no more energy than the power limits allow",
}


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is wrong with a cell."""

    check: str  # a key of CHECKS
    verdict: Verdict  # what it makes of the cell
    text: str
    failed: int | None = None  # requests that failed it, where it is about requests
    advice: str = ""  # what to do next


def verdict(findings: Sequence[Finding]) -> Verdict:
    found = {finding.verdict for finding in findings}
    return "invalid" if "invalid" in found else "suspect" if "suspect" in found else "valid"
