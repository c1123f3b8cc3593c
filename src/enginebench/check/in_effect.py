"""Whether what a cell's variant switches on or off took effect in the started engine. Pure."""

from collections.abc import Iterator

from enginebench.check.findings import Finding
from enginebench.record.schema import Launch


def findings(launch: Launch | None) -> Iterator[Finding]:
    """One finding a condition of a declared variant that the engine, once ready, did not meet."""
    for seen in launch.resolved if launch else ():
        if not seen.holds:
            text = (
                f"{seen.variant} ({seen.sets}) did not take effect: expected {seen.expected}, "
                f"found {seen.found}"
            )
            advice = "this device or version ignores the setting: leave the variant out"
            yield Finding("effect", "invalid", text, None, advice)
