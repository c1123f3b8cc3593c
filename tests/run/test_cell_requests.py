"""The requests of a workload whose prompts share a beginning."""

import pytest

from enginebench.plan import plan, prompts, study_file
from enginebench.run import cell_requests

SHARED = {"name": "shared", "prompt_tokens": 48, "shared_prefix_tokens": 32, "output_tokens": 4,
          "concurrency": [1, 3]}  # fmt: skip
STUDY = study_file.parse(
    {"name": "s", "engines": [{"engine": "e"}],
     "workloads": [SHARED, SHARED | {"name": "other"}, SHARED | {"name": "apart",
                                                                 "shared_prefix_tokens": 0}]},
    "s.yaml",
)  # fmt: skip


@pytest.fixture(scope="module")
def make(embedded_model, sources, tmp_path_factory):
    tokenizer, root = prompts.load_tokenizer(embedded_model), tmp_path_factory.mktemp("root")

    def made(workload, level, attempt=1):
        (cell,) = (
            cell
            for own in STUDY.workloads
            for cell in plan.levels(own)
            if (own.name, cell.concurrency) == (workload, level)
        )
        return cell_requests.make(STUDY, cell, tokenizer, sources, root, attempt)

    return made


def beginnings(*works):
    """The first 32 tokens of all requests, warm-up and measured."""
    return {ask.prompt_ids[:32] for work in works for ask in (*work.warmup, *work.measured)}


def test_a_workload_has_one_beginning_at_all_levels_in_all_attempts_and_in_the_warmup(make):
    works = make("shared", 1), make("shared", 3), make("shared", 3, attempt=2)
    assert len(beginnings(*works)) == 1
    asked = [ask.prompt_ids for work in works for ask in (*work.warmup, *work.measured)]
    assert len(set(asked)) == len(asked) == (1 + 2) + 2 * (3 + 6)
    assert make("shared", 3) == works[1]  # the same for every engine


def test_another_workload_has_another_beginning_or_none(make):
    assert not beginnings(make("shared", 3)) & beginnings(make("other", 3))
    assert len(beginnings(make("apart", 3))) == 3 + 6
