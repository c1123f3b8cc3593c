"""The requests of a cell: made from the study's prompts, before any engine starts."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tokenizers import Tokenizer

from enginebench.base.errors import UserError
from enginebench.engines.dialect import GenerationRequest
from enginebench.plan import arrivals, plan, prompts
from enginebench.plan.plan import Cell, Plan
from enginebench.plan.study_file import Study


@dataclass(frozen=True, slots=True)
class Work:
    """The requests of one cell: the same for every engine and every trial."""

    warmup: tuple[GenerationRequest, ...]
    measured: tuple[GenerationRequest, ...]
    due_s: tuple[float, ...] | None = None  # open loop: when each is due after the start


def make_all(
    study: Study,
    plan: Plan,
    tokenizer: Tokenizer,
    texts: list[str],
    root: Path,
    context: int | None,
) -> dict[str, Work]:
    """The requests of every cell of a plan, those that compare answers included, by cell id.

    Args:
        texts: the study's prompts, of any length.
        root: where the path of a trace begins.
        context: the model's, in tokens; None: not known, and then not checked.

    Raises:
        UserError: a workload does not fit the context, or the prompts or the trace are too few.
    """
    planned = [cell for item in plan.launches for cell in (*item.cells, item.agreement) if cell]
    work = {}
    for cell in {cell.id: cell for cell in planned}.values():
        _require_context(cell, context)
        work[cell.id] = make(study, cell, tokenizer, texts, root)
    return work


def _require_context(cell: Cell, context: int | None) -> None:
    wanted = cell.workload.prompt_tokens + cell.workload.longest_output
    if context is not None and wanted > context:
        raise UserError(
            f"workload {cell.workload.name}: expected prompt and output to fit the model's context "
            f"of {context} tokens, found {cell.workload.prompt_tokens} + "
            f"{cell.workload.longest_output} = {wanted}; ask for less"
        )


def make(
    study: Study,
    cell: Cell,
    tokenizer: Tokenizer,
    texts: list[str],
    root: Path,
    attempt: int = 1,
) -> Work:
    """The requests of one cell.

    Args:
        attempt: another one has other prompts of the same lengths, so that no cache knows them,
            and the same output lengths and arrivals. It is the same for every engine.
    """
    workload = cell.workload
    seed = f"{study.seed}/{cell.id}"
    prompt_seed = seed if attempt == 1 else f"{seed}/attempt{attempt}"
    outputs = [workload.warmup_output_tokens] * cell.warmups
    inputs = [workload.prompt_tokens] * (cell.warmups + cell.requests)
    trace = arrivals.read_trace(root / workload.trace) if workload.trace else []
    if trace:  # root / an absolute path is that path
        rows = [trace[index % len(trace)] for index in range(cell.requests)]
        outputs += [min(row.output_tokens, workload.longest_output) for row in rows]
        longest = workload.prompt_tokens
        inputs[cell.warmups :] = [min(row.prompt_tokens, longest) for row in rows]
    else:
        outputs += plan.output_lengths(workload, cell.requests, seed)
    # One set for both: no measured prompt is ever seen in the warm-up.
    beginning = workload.shared_prefix_tokens, f"{study.seed}/{workload.name}"
    sets = {
        length: iter(
            prompts.make_set(
                tokenizer, texts, length, count, _set_seed(prompt_seed, trace, length), *beginning
            )
        )
        for length, count in Counter(inputs).items()
    }
    chosen = [next(sets[length]) for length in inputs]
    asks = [
        GenerationRequest(
            prompt.ids, prompt.text, length, study.seed, prompt.sha256, cell.wants_ids
        )
        for prompt, length in zip(chosen, outputs, strict=True)
    ]
    due_s = None
    if cell.rate is not None:
        due_s = tuple(arrivals.due_s(workload, cell.rate, cell.requests, seed, trace))
    return Work(tuple(asks[: cell.warmups]), tuple(asks[cell.warmups :]), due_s)


def _set_seed(seed: str, trace: Sequence[object], length: int) -> str:
    """Prompts of different lengths must not begin with the same tag."""
    return f"{seed}/{length}" if trace else seed
