"""What the machine did during a study: noise before it, others in each cell, reruns. Pure."""

from enginebench.record.schema_study import Noise
from enginebench.report.charts.machine import CellSpan
from enginebench.summarize.study_summary import Summary

NOT_WATCHED = "The load of the machine was not recorded in this study."


def spans(summary: Summary) -> list[CellSpan]:
    """Every attempt of every cell, in the order of time."""
    found = [
        CellSpan(
            variant=cell.label,
            name=f"{cell.label} {cell.workload}, {cell.load_text}, trial {cell.trial}"
            + (f", attempt {span.attempt.number}" if len(cell.attempts) > 1 else ""),
            start_s=span.start_s,
            end_s=span.end_s,
            points=span.load,
            is_disturbed=span.attempt.is_disturbed,
        )
        for cell in summary.cells
        for span in cell.attempts
    ]
    return sorted(found, key=lambda span: span.start_s)


def sentences(summary: Summary) -> list[str]:
    """How steady the machine was, who else used it, and which cells were run again."""
    watched = [cell.machine for cell in summary.cells if cell.machine is not None]
    if not watched:
        return [NOT_WATCHED]
    found = [*_noise(summary.study.noise)]
    others = [m.others_cores_mean for m in watched if m.others_cores_mean is not None]
    if others:
        cpus = max(m.cpus or 0 for m in watched)
        found.append(
            f"Other processes used {max(others):.2f} of {cpus} cores on average in the most "
            f"disturbed of {len(others)} cells that count, {sum(others) / len(others):.2f} in all."
        )
    else:
        found.append("What other processes used is not known: the engine's own are hidden.")
    steal = [m.steal_share for m in watched if m.steal_share]
    if steal:
        found.append(f"The hypervisor took up to {max(steal):.1%} of the CPU time asked for.")
    again = [cell for cell in summary.cells if cell.attempts_text]
    found += [
        f"{cell.label} {cell.workload}, {cell.load_text}, trial {cell.trial}: {cell.attempts_text}."
        for cell in again
    ]
    return found


def _noise(noise: Noise | None) -> list[str]:
    if noise is None or noise.sd_log is None:
        return []
    return [
        f"Before the study the speed of equal work varied by {noise.sd_log:.1%} (standard "
        f"deviation over {noise.seconds:g} s), a lower bound for the spread of engine starts."
    ]
