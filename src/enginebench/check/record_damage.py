"""What damaged, missing or altered raw files make of the cells that depend on them. Pure."""

from collections.abc import Iterator, Mapping

from enginebench.check.findings import Finding, Verdict

_ADVICE = "restore it from a copy, or run that engine start again with --resume"
#: Files that no figure of a cell comes from: without them less can be looked up.
_BESIDE = ("server.log", "compose.yaml", "events.jsonl", "finished.json")


def findings(damages: Mapping[str, str], launch: str, cell: str) -> Iterator[Finding]:
    """What concerns one cell.

    Args:
        damages: by path below the study's directory: what is wrong, with the path.
    """
    for path, text in damages.items():
        parts = path.split("/")
        of_study = parts[0] != "raw"
        of_launch = parts[:2] == ["raw", launch] and len(parts) == 3
        of_cell = parts[:2] == ["raw", launch] and parts[2].partition("~")[0] == cell
        if of_study or of_launch or of_cell:
            verdict: Verdict = "suspect" if parts[-1] in _BESIDE else "invalid"
            yield Finding("record", verdict, text, None, _ADVICE)
