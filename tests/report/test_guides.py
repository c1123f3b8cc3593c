"""The guides: their tables are those of the published records."""

import json
import re
import shutil

import made_record
import pytest
from project import ROOT

from enginebench.base.errors import UserError
from enginebench.engines.directory import load_engine
from enginebench.hardware import roofline
from enginebench.hardware.model_config import shape
from enginebench.plan import study_file
from enginebench.report import build, guides

PAGES = sorted((ROOT / "docs" / "guides").glob("*.md"))
PUBLISHED = ROOT / "results" / "published"


@pytest.mark.slow
@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_table_of_a_guide_is_what_the_published_record_gives(page):
    text = page.read_text()
    assert guides.filled(text, PUBLISHED, page) == text, "run: make guides"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_mark_is_closed_and_filled(page):
    text = page.read_text()
    marks = text.count("<!-- table:") + text.count("<!-- figure:")
    blocks = guides.BLOCK.findall(text)
    assert len(blocks) == marks == text.count("<!-- end -->")
    assert all(content.strip() for *_, content, _ in blocks)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_mark_asks_for_a_workload_that_its_study_has(page):
    for _, _, words, *_ in guides.BLOCK.findall(page.read_text()):
        name, kind, *arguments = words.split()
        study = study_file.load(ROOT / "studies" / f"{name}.yaml")
        if kind == "results":
            assert arguments[0] in [workload.name for workload in study.workloads]


@pytest.fixture
def studies(tmp_path):
    where = made_record.write(tmp_path / "studies" / "2026-01-02-made", {"a/x": (1,), "b/x": (2,)})
    build.build(where)
    return where.parent


def page(tmp_path, mark):
    file = tmp_path / "pages" / "page.md"
    file.parent.mkdir()
    file.write_text(f"# A page\n\n<!-- {mark} -->\nold\n<!-- end -->\n\nThe end.\n")
    return file


def test_a_block_is_written_anew_and_the_rest_is_kept(tmp_path, studies):
    file = page(tmp_path, "table: made results many 4")
    assert guides.write(file.parent, studies) == [file]
    text = file.read_text()
    assert text.startswith("# A page\n\n<!-- table: made results many 4 -->\n| engine/variant |")
    assert "old" not in text and text.endswith("<!-- end -->\n\nThe end.\n")
    assert "| a/x |" in text and "| b/x |" in text
    assert "[2026-01-02-made](../studies/2026-01-02-made/derived/report.md)" in text
    assert guides.write(file.parent, studies) == []  # nothing left to do


def copied(studies, to, name):
    """The record again, as one of a study of this name that was started on the day of its own."""
    record = studies / to
    shutil.copytree(studies / "2026-01-02-made", record)
    facts = json.loads((record / "study.json").read_text())
    facts |= {"started_at": f"{to[:10]}T00:00:00+00:00", "study": facts["study"] | {"name": name}}
    (record / "study.json").write_text(json.dumps(facts))


def test_the_latest_of_several_records_is_taken(tmp_path, studies):
    shutil.copytree(studies / "2026-01-02-made", studies / "2026-02-03-made")
    copied(studies, "2026-02-03-made-2", "made")
    copied(studies, "2026-03-04-made-up", "made-up")  # another study
    file = page(tmp_path, "figure: made many-throughput")
    guides.write(file.parent, studies)
    assert "2026-02-03-made-2/derived/figures/many-throughput.svg" in file.read_text()


def test_a_study_without_a_record_is_said_in_words(tmp_path, studies):
    file = page(tmp_path, "table: nonesuch phases")
    guides.write(file.parent, studies)
    assert "Not measured yet: no record of the study `nonesuch`" in file.read_text()


@pytest.mark.parametrize(
    ("mark", "said"),
    [
        ("table: made results nonesuch", "expected a workload of many, found 'nonesuch'"),
        ("table: made nonesuch", "expected one of results, phases"),
        ("table: made phases", "has no rows for 'phases'"),
        ("figure: made nonesuch", "found none called 'nonesuch'"),
    ],
)
def test_a_mark_that_the_record_cannot_fill_is_one_line(tmp_path, studies, mark, said):
    file = page(tmp_path, mark)
    with pytest.raises(UserError) as caught:
        guides.write(file.parent, studies)
    assert said in caught.value.message and str(file) in caught.value.message


def test_the_worked_examples_are_those_of_the_hardware_module():
    """The tables of prefill-and-decode.md and cost-of-a-million-tokens.md."""
    config = {
        "model_type": "llama", "hidden_size": 4096, "num_hidden_layers": 32,
        "num_attention_heads": 32, "num_key_value_heads": 32, "intermediate_size": 11008,
        "vocab_size": 32000,
    }  # fmt: skip
    model, dtypes = shape(config), roofline.Dtypes("bfloat16", "bfloat16")
    a100 = roofline.Ceiling("A100, PCIe", 1.935e12, {"bfloat16": 312e12}, "data sheet")
    usd_per_hour = 3.673  # of an instance with the PCIe card; phases are those of the SXM card
    phases = (ROOT / "docs" / "guides" / "prefill-and-decode.md").read_text()
    prompt_ms = model.flops_per_token / 312e12 * 1e3
    step_ms = model.read_bytes(2) / 2.039e12 * 1e3
    assert f"| {prompt_ms:.3f} ms |" in phases and f"| {step_ms:.1f} ms |" in phases
    assert f"costs {step_ms / prompt_ms:.0f} times as much" in phases
    cost = (ROOT / "docs" / "guides" / "cost-of-a-million-tokens.md").read_text()
    for users in (1, 8, 32, 64):
        step_s = roofline.decode_step_s(model, a100, dtypes, [1000] * users)
        gb = roofline.decode_step_work(model, dtypes, [1000] * users).bytes / 1e9
        rate = users / step_s
        usd = usd_per_hour / (rate * 3600) * 1e6
        row = f"| {users} | {gb:.1f} GB | {step_s * 1e3:.1f} ms | {rate:,.0f} | {usd:.2f} |"
        assert row in cost, row


TAUGHT = ("prefill-and-decode.md", "cost-of-a-million-tokens.md")
ENGINES = ("transformers (baseline)", "vLLM", "TGI", "TensorRT-LLM")


@pytest.mark.parametrize("page", [p for p in PAGES if p.name not in TAUGHT], ids=lambda p: p.name)
def test_a_guide_says_when_it_loses_and_has_each_engines_flag_with_its_source(page):
    _, loses, flags = re.split(r"^## (?:When it loses|The flags)$", page.read_text(), flags=re.M)
    assert loses.count("\n- ") >= 3 and "][" in loses
    rows = [line.strip("| ").split(" | ") for line in flags.splitlines() if line.startswith("| ")]
    headings, *engines = rows
    assert [row[0] for row in engines] == list(ENGINES)
    assert headings[-1] == "documented in"
    links = dict(re.findall(r"^\[(\w+)\]: (https://\S+)$", flags, re.M))
    for row in engines:
        assert "https://" in row[-1] or any(f"][{name}]" in row[-1] for name in links), row[-1]
    for text in (loses, flags):
        assert set(re.findall(r"\]\[(\w+)\]", text)) <= set(links)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_a_guide_names_variants_that_are_declared(page):
    for engine, name in re.findall(r"`(\w+)@([\w-]+)`", page.read_text()):
        assert engine == "engine" or name in load_engine(ROOT, engine).declared, (engine, name)
