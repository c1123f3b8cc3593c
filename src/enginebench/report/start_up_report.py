"""What starts took: the report's table. Pure."""

from enginebench.report.formats import number
from enginebench.summarize import start_up
from enginebench.summarize.study_summary import Summary

HEADINGS = (
    "engine/variant",
    "start",
    "starts",
    "launch to ready, s",
    "weights, s",
    "initialization, s",
    "compile, s",
    "capture, s",
    "rest, s",
)


def rows(summary: Summary) -> list[list[str]]:
    """Under HEADINGS, one row a variant and kind of start."""
    return [
        [
            found.label,
            found.kind,
            str(found.starts),
            *(
                number(value, 1)
                for value in (
                    found.ready_s,
                    found.weights_s,
                    found.init_s,
                    found.compile_s,
                    found.capture_s,
                    found.rest_s,
                )
            ),
        ]
        for found in start_up.of_study(summary)
    ]
