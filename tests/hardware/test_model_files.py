"""Weights as they lie in a directory: sizes from headers, and what is no header."""

import json

import pytest
from project import ROOT

from enginebench.base.errors import UserError
from enginebench.hardware.model_config import text_config
from enginebench.plan import models

LLAMA = json.loads((ROOT / "tests/data/model_configs.json").read_text())["llama-3-8b"]["config"]


def write(path, **tensors):
    """A safetensors file of zeros: name -> (dtype, shape, bytes)."""
    header, offset = {}, 0
    for name, (dtype, shape, size) in tensors.items():
        span = [offset, offset + size]
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": span}
        offset += size
    text = json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + bytes(offset))


def test_parameters_and_bytes_come_from_the_headers(tmp_path):
    write(tmp_path / "model.safetensors", a=("BF16", [10, 4], 80), b=("F32", [5], 20))
    assert models._weights(tmp_path) == (45, 100)


def test_packed_weights_have_bytes_but_no_parameters(tmp_path):
    write(
        tmp_path / "model.safetensors",
        **{
            "l.qweight": ("I32", [128, 16], 8192),
            "l.qzeros": ("I32", [1, 16], 64),
            "l.scales": ("F16", [1, 128], 256),
            "embed": ("F16", [100, 128], 25600),
        },
    )
    assert models._weights(tmp_path) == (None, 34_112)


def test_weights_that_are_there_twice_count_once(tmp_path):
    write(tmp_path / "consolidated.safetensors", a=("BF16", [200], 400))
    write(tmp_path / "model-00001-of-00002.safetensors", a=("BF16", [100], 200))
    write(tmp_path / "model-00002-of-00002.safetensors", b=("BF16", [100], 200))
    files = {"a": "model-00001-of-00002", "b": "model-00002-of-00002"}
    index = {"weight_map": {name: f"{file}.safetensors" for name, file in files.items()}}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))
    assert models._weights(tmp_path) == (200, 400)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n", "git lfs pull"),
        (b"", "an incomplete one"),
        (b"\x08\x00\x00\x00\x00\x00\x00\x00{}", "expected a safetensors file"),
        (b"\xff" * 64, "expected a safetensors file"),
        (b"\x02\x00\x00\x00\x00\x00\x00\x00[]", "expected a safetensors file"),
        (b'\x07\x00\x00\x00\x00\x00\x00\x00{"a":1}', "expected a safetensors file"),
    ],
)
def test_a_file_that_is_no_safetensors_is_one_line(tmp_path, content, reason):
    (tmp_path / "model.safetensors").write_bytes(content)
    with pytest.raises(UserError, match=reason):
        models._weights(tmp_path)


@pytest.mark.parametrize("content", ["{", "[]", '{"weight_map": {"a": "gone.safetensors"}}'])
def test_an_index_that_does_not_fit_its_files_is_one_line(tmp_path, content):
    (tmp_path / "model.safetensors.index.json").write_text(content)
    with pytest.raises(UserError, match="download"):
        models._weights(tmp_path)


def test_no_weights_are_no_figure(tmp_path):
    assert models._weights(tmp_path) == (None, None)


@pytest.mark.parametrize("value", [None, "4096", 0, True, [4096]])
def test_a_context_that_is_no_number_is_not_stated(tmp_path, value):
    config = LLAMA | {"max_position_embeddings": value}
    assert models.Model("m", tmp_path, "", "", False, config).context is None


def test_the_context_may_stand_one_level_down(tmp_path):
    nested = {"text_config": LLAMA | {"max_position_embeddings": 32}}
    assert models.Model("m", tmp_path, "", "", False, nested).context == 32
    assert text_config(LLAMA) is LLAMA
