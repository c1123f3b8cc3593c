"""From a study's raw files to its figures: one row a cell and trial, one group over the trials.

A pure function of the record: the same raw files give the same summary, anywhere, any time.
"""

import contextlib
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from enginebench.base.errors import UserError
from enginebench.base.estimator import Comparison
from enginebench.check import record_damage
from enginebench.hardware import roofline
from enginebench.metrics import agreement
from enginebench.metrics.perplexity import Perplexity
from enginebench.record import reading, schema
from enginebench.record.schema_study import Ceiling as RecordedCeiling
from enginebench.record.schema_study import OutputRange, PlannedCell, PlannedLaunch, Study, Workload
from enginebench.summarize import ceiling_shares, cell_reader, documents, perplexities
from enginebench.summarize.cell_reader import CellSource
from enginebench.summarize.cells import CellRow
from enginebench.summarize.documents import Documents
from enginebench.summarize.groups import Group, Members, compared, group


@dataclass(frozen=True, slots=True)
class Summary:
    study: Study  # study.json
    launches: Mapping[str, schema.Launch]  # launch.json by launch id; only what was started
    finished: bool
    resumed: int  # how often it was resumed
    cells: tuple[CellRow, ...]
    groups: tuple[Group, ...]
    reference: str
    agreement: tuple[agreement.Comparison, ...]  # empty: answers were not compared
    perplexities: tuple[Perplexity, ...] = ()  # empty: no engine was asked
    #: By workload, level and figure of COMPARED.
    comparisons: Mapping[tuple[str, float, str], Comparison] = field(default_factory=dict)
    ceiling_before: roofline.Ceiling | None = None  # before the first engine; None: not known
    ceiling_after: roofline.Ceiling | None = None  # after the last; None: not measured then
    gpu_reached: roofline.Ceiling | None = None  # the rates of a GPU as measured in this study

    @property
    def ceiling(self) -> roofline.Ceiling | None:
        """Of the machine's two ceilings the higher, as a busy machine measures too low."""
        before, after = self.ceiling_before, self.ceiling_after
        return roofline.higher(before, after) if before else None

    @property
    def labels(self) -> list[str]:
        """The variants, in the order of the study."""
        return list(dict.fromkeys(group.label for group in self.groups))

    @property
    def invalid(self) -> tuple[CellRow, ...]:
        return tuple(cell for cell in self.cells if cell.verdict == "invalid")

    @property
    def suspect(self) -> tuple[CellRow, ...]:
        return tuple(cell for cell in self.cells if cell.verdict == "suspect")


@contextlib.contextmanager
def of_a_record(directory: Path) -> Iterator[None]:
    """A record whose values contradict each other, or make no sense, ends in words.

    Raises:
        UserError: in place of what such values run into; the details say where that was.
    """
    try:
        yield
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
        places = traceback.extract_tb(error.__traceback__)[-3:]
        raise UserError(
            f"{directory}: expected a study's record, found values that make no sense together "
            f"({type(error).__name__}: {str(error)[:200]}); was it edited? If not, report this "
            "with the lines below",
            [f"{Path(p.filename).name}:{p.lineno}: {p.line}" for p in places],
        ) from error


def summarize(directory: Path, on_bytes: Callable[[int], object] = reading.ignore) -> Summary:
    """Read a study's raw files, in its directory below results/, and work out every figure.

    Args:
        on_bytes: is called with the bytes of the requests' records as they are read; ``size`` has
            their sum.

    Raises:
        UserError: there is no record there, or its values make no sense.
    """
    with of_a_record(directory):
        return _summarize(directory, on_bytes)


def _summarize(directory: Path, on_bytes: Callable[[int], object]) -> Summary:
    read = documents.read(directory)
    study = read.study
    reference = study.study.reference or _labels(study)[0]
    started = Summary(
        study=study,
        launches=read.launches,
        finished=read.finished is not None,
        resumed=read.resumed,
        cells=(),
        groups=(),
        reference=reference,
        agreement=_agreement(directory, read, reference),
        perplexities=perplexities.of_study(directory, read, reference),
        ceiling_before=_ceiling(study.ceiling),
        ceiling_after=_ceiling(read.finished.ceiling if read.finished else None),
        gpu_reached=_ceiling(study.gpu_reached),
    )
    rows = [
        _row(directory, started, planned, cell, read.damages, on_bytes)
        for planned in study.plan
        for cell in planned.cells
    ]
    groups: list[Group] = []
    comparisons: dict[tuple[str, float, str], Comparison] = {}
    for name, level, members in _levels(study, rows):
        at_level = compared(members)
        comparisons |= {(name, level, figure): found for figure, found in at_level.items()}
        groups += [group(label, cells, at_level, reference) for label, cells in members.items()]
    return replace(started, cells=tuple(rows), groups=tuple(groups), comparisons=comparisons)


def _row(
    directory: Path,
    summary: Summary,
    planned: PlannedLaunch,
    cell: PlannedCell,
    damages: Mapping[str, str],
    on_bytes: Callable[[int], object],
) -> CellRow:
    """One cell of a planned launch, with what is wrong with its files."""
    source = CellSource(
        directory=directory,
        study=summary.study,
        ceiling=summary.ceiling,
        planned=planned,
        cell=cell,
        launch=summary.launches.get(planned.id),
        comparisons=summary.agreement,
    )
    row = cell_reader.cell_row(source, on_bytes)
    damaged = tuple(record_damage.findings(damages, planned.id, cell.id))
    return replace(row, findings=damaged + row.findings)


def size(directory: Path) -> int:
    """Bytes of the requests' records of a study; unpacked, as they are read."""
    plain = directory.glob("raw/*/*/requests.jsonl")
    packed = directory.glob("raw/*/*/requests.jsonl.gz")
    return sum(f.stat().st_size for f in plain) + sum(map(reading.unpacked_bytes, packed))


def _labels(study: Study) -> list[str]:
    return [variant.label for variant in study.study.engines]


def _agreement(
    directory: Path, read: Documents, reference: str
) -> tuple[agreement.Comparison, ...]:
    """The answers of every variant that gave any, beside those it should agree with."""
    answers, dtypes = {}, {}
    asked: list[str] | None = None  # the prompts, by their hashes
    for planned in read.study.plan:
        path = f"raw/{planned.id}/agreement.jsonl.gz"
        launch, label = read.launches.get(planned.id), planned.label
        if launch is None or not (directory / path).exists():
            continue
        try:
            rows = list(reading.read_rows(directory / path, schema.Request))
        except reading.RecordError as error:
            read.damages[path] = error.message
            continue
        prompts = [row.prompt_sha256 for row in rows]
        asked = prompts if asked is None else asked
        if prompts != asked:
            read.damages[path] = f"{path}: expected answers to the same prompts as of the others"
            continue
        answers[label], dtypes[label] = rows, _arithmetic(launch, read.study.model)
    ordered = {label: answers[label] for label in _labels(read.study) if label in answers}
    return agreement.comparisons(ordered, dtypes, reference)


def _arithmetic(launch: schema.Launch, model: schema.Model) -> str | None:
    """What decides which answers an engine gives: its dtype, other weights, the dtype of its KV
    cache. Answers of two launches must agree only where it is the same; None: not known.

    Args:
        model: the study's.
    """
    if launch.dtype is None:
        return None
    options, weights = ceiling_shares.launch_options(launch), ""
    if launch.model:
        # A quantized copy may be computed with in several ways: w4a16, w4a8.
        ways = launch.declared if ceiling_shares.is_stored_quantized(launch.model) else []
        weights = f"{launch.model.name} weights" + (f" as {'+'.join(ways)}" if ways else "")
    elif options.is_quantized and not ceiling_shares.is_stored_quantized(model):
        weights = "weights quantized by the engine"
    kv_dtype = options.kv_dtype
    return ", ".join(filter(None, [launch.dtype, weights, kv_dtype and f"{kv_dtype} KV cache"]))


def _ceiling(recorded: RecordedCeiling | None) -> roofline.Ceiling | None:
    if recorded is None:
        return None
    return roofline.Ceiling(
        recorded.name, recorded.bandwidth_bytes_per_s, recorded.flops_per_s, recorded.source
    )


def _levels(study: Study, rows: Sequence[CellRow]) -> Iterator[tuple[str, float, Members]]:
    """Workload, level and its cells, in the study's own order of workloads, levels, variants."""
    by_place: dict[tuple[str, float, str], list[CellRow]] = {}
    for cell in rows:
        by_place.setdefault((cell.workload, cell.level, cell.label), []).append(cell)
    for workload in study.study.workloads:
        for level in levels(workload):
            places = ((label, (workload.name, level, label)) for label in _labels(study))
            members = {label: by_place[place] for label, place in places if place in by_place}
            yield workload.name, level, members


def workload_of(summary: Summary, name: str) -> Workload:
    """A workload of the study by its name."""
    (found,) = (w for w in summary.study.study.workloads if w.name == name)
    return found


def levels(workload: Workload) -> list[int] | list[float]:
    """Its levels of load: requests in flight, or in an open loop requests/s."""
    return workload.concurrency or workload.rate


def output_text(workload: Workload) -> str:
    """How many tokens its outputs have."""
    output = workload.output_tokens
    return f"{output.min} to {output.max}" if isinstance(output, OutputRange) else f"{output}"


def cells_of(summary: Summary, group: Group) -> list[CellRow]:
    """The cells behind a group: of all its trials, the invalid ones too."""
    here = (group.label, group.workload, group.level)
    return [cell for cell in summary.cells if (cell.label, cell.workload, cell.level) == here]
