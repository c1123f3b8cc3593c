"""Every engine's cells are held to the hardware, whichever way the engine is told its dtype."""

import json

import made_record
import pytest
from builders import LLAMA_2_7B
from project import ROOT

from enginebench.engines.directory import find_engines, load_engine
from enginebench.summarize.study_summary import summarize

# A step of Llama-2-7B in 16 bits reads 6.6e9 weights of 2 bytes: at 1e9 bytes/s over 13 s. The made
# cells take 0.01 s a token: more than a thousand times too fast.
SLOW = {
    "name": "slow",
    "bandwidth_bytes_per_s": 1e9,
    "flops_per_s": {"bfloat16": 1e15, "float16": 1e15},
    "source": "made up",
}


def edit(file, **changes):
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))


def cells(tmp_path, dtype):
    directory = made_record.write(tmp_path / "made", {"slow/plain": (1, 1)})
    facts = json.loads((directory / "study.json").read_text())
    edit(directory / "study.json", ceiling=SLOW, model=facts["model"] | {"config": LLAMA_2_7B})
    for file in directory.glob("raw/*/launch.json"):
        edit(file, dtype=dtype)
    return summarize(directory).cells


@pytest.mark.parametrize("engine", find_engines(ROOT))
def test_an_impossible_cell_is_found_with_the_dtype_that_the_engine_is_given(tmp_path, engine):
    dtype = load_engine(ROOT, engine).dtype_under({"DTYPE": "float16"})
    assert dtype == "float16"
    for cell in cells(tmp_path, dtype):
        assert cell.figures["ceiling_share"] > 1
        assert "physics" in {finding.check for finding in cell.findings}


def test_without_a_dtype_nothing_is_held_to_the_hardware(tmp_path):
    for cell in cells(tmp_path, None):
        assert cell.figures["ceiling_share"] is None
        assert "physics" not in {finding.check for finding in cell.findings}


def test_a_launch_of_a_derived_copy_is_held_to_the_ceiling_of_that_copy(tmp_path):
    small = LLAMA_2_7B | {
        "num_hidden_layers": 1,
        "hidden_size": 16,
        "num_attention_heads": 2,
        "num_key_value_heads": 2,
        "intermediate_size": 16,
        "vocab_size": 16,
    }
    directory = made_record.write(tmp_path / "made", {"slow/plain": (1, 1)})
    facts = json.loads((directory / "study.json").read_text())
    edit(directory / "study.json", ceiling=SLOW, model=facts["model"] | {"config": LLAMA_2_7B})
    own = facts["model"] | {"name": "embedded+small", "config": small, "parameters": 100}
    for file in directory.glob("raw/*/launch.json"):
        edit(file, dtype="float16", model=own)
    for cell in summarize(directory).cells:
        assert 0 < cell.figures["ceiling_share"] < 1
        assert cell.figures["weights_bytes"] == 200  # two bytes each of the copy's 100


def test_a_draft_models_weights_are_weights_too(tmp_path):
    directory = made_record.write(tmp_path / "made", {"slow/plain": (1, 1)})
    facts = json.loads((directory / "study.json").read_text())
    for file in directory.glob("raw/*/launch.json"):
        edit(file, dtype="float16", draft=facts["model"] | {"parameters": 10})
    assert {cell.figures["weights_bytes"] for cell in summarize(directory).cells} == {2020}
