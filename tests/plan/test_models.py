"""A model directory that is not as expected: what is odd about it, in one line."""

import json
import os
from pathlib import Path

import pytest

from enginebench.base.errors import UserError
from enginebench.plan import models

POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 214123456\n"
CONFIG = {"model_type": "llama", "max_position_embeddings": 32}


def weights(path, *names):
    """A safetensors file of tensors of 10 x 10 at 2 bytes."""
    header = {
        name: {"dtype": "BF16", "shape": [10, 10], "data_offsets": [200 * k, 200 * k + 200]}
        for k, name in enumerate(names)
    }
    text = json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + bytes(200 * len(names)))


@pytest.fixture
def directory(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps(CONFIG))
    return tmp_path


def resolve(directory):
    return models.resolve(str(directory), [], Path("nowhere"))


def refusal(directory):
    with pytest.raises(UserError) as caught:
        resolve(directory)
    assert "\n" not in caught.value.message
    return caught.value.message


def test_the_index_says_which_files_hold_the_weights(directory):
    weights(directory / "consolidated.safetensors", "a", "b")
    weights(directory / "model-00001-of-00002.safetensors", "a")
    weights(directory / "model-00002-of-00002.safetensors", "b")
    # 2 x 100 parameters at 2 bytes, without an index as with one.
    assert (resolve(directory).parameters, resolve(directory).weights_bytes) == (200, 400)
    index = {"weight_map": {"a": "model-00001-of-00002.safetensors"}}
    (directory / "model.safetensors.index.json").write_text(json.dumps(index))
    assert resolve(directory).parameters == 100


@pytest.mark.parametrize(
    ("names", "parameters"),
    [
        (["model.safetensors", "consolidated.safetensors", "adapter_model.safetensors"], 100),
        (["consolidated.safetensors"], 100),
        (["consolidated.00.safetensors", "model-00001-of-00001.safetensors"], 100),
        (["other-a.safetensors", "other-b.safetensors"], 200),
        ([], None),
    ],
)
def test_weights_beside_those_that_engines_load_do_not_count(directory, names, parameters):
    for name in names:
        weights(directory / name, "a")
    assert resolve(directory).parameters == parameters


@pytest.mark.parametrize(
    "name", ["model.safetensors", "pytorch_model.bin", "config.json", "tokenizer.json", "a.model"]
)
def test_a_pointer_of_git_lfs_is_named_with_what_to_do(directory, name):
    (directory / name).write_text(POINTER)
    assert refusal(directory) == (
        f"{directory / name}: expected a file of the model, found a pointer of Git LFS; run "
        "`git lfs pull`"
    )


def test_weights_that_are_cut_off_are_named(directory):
    weights(directory / "model.safetensors", "a", "b")
    whole = (directory / "model.safetensors").read_bytes()
    for length in (0, 4, 8, 60, len(whole) - 1):
        (directory / "model.safetensors").write_bytes(whole[:length])
        found = refusal(directory)
        assert found.startswith(f"{directory / 'model.safetensors'}: expected ")
        assert found.endswith("download it again")
    assert f"expected {len(whole)} bytes by its header, found {len(whole) - 1}" in found


@pytest.mark.parametrize(
    "header",
    [
        "[]", "5", "null", '{"a": 5}', '{"a": {}}', "[" * 5000, "{", "\xff",
        '{"a": {"dtype": "F16", "shape": [-1], "data_offsets": [0, 2]}}',
        '{"a": {"dtype": "F16", "shape": [1.0], "data_offsets": [0, 2]}}',
        '{"a": {"dtype": "F16", "shape": [1], "data_offsets": [2, 0]}}',
        '{"a": {"dtype": "F16", "shape": [1], "data_offsets": [0]}}',
        '{"a": {"dtype": 16, "shape": [1], "data_offsets": [0, 2]}}',
    ],
)  # fmt: skip
def test_a_header_of_another_form_is_one_line(directory, header):
    raw = header.encode("latin-1")
    (directory / "model.safetensors").write_bytes(len(raw).to_bytes(8, "little") + raw + bytes(9))
    assert "expected a safetensors file, found another or an incomplete one" in refusal(directory)


@pytest.mark.parametrize(
    "index",
    [
        '{"weight_map": {"a": "../../etc/passwd"}}', '{"weight_map": {"a": "/dev/zero"}}',
        '{"weight_map": {"a": 5}}', '{"weight_map": []}', '{"weight_map": {}}', "{}", "", "[]",
        '{"weight_map": {"a": "a\\u0000.safetensors"}}', "[" * 100_000,
        '{"weight_map": {"a": ".."}}',
    ],
)  # fmt: skip
def test_an_index_that_names_no_files_of_the_directory_is_one_line(directory, index):
    (directory / "model.safetensors.index.json").write_text(index)
    assert refusal(directory).startswith(f"{directory / 'model.safetensors.index.json'}: expected")


@pytest.mark.parametrize("config", ["", "[]", "{", "5", "[" * 100_000, "a\0b"])
def test_a_config_that_is_none_is_one_line(directory, config):
    (directory / "config.json").write_text(config)
    assert refusal(directory).startswith(f"{directory / 'config.json'}")


def test_a_config_may_have_a_byte_order_mark_and_its_sizes_one_level_down(directory):
    (directory / "config.json").write_bytes(b"\xef\xbb\xbf" + json.dumps(CONFIG).encode())
    assert resolve(directory).context == 32
    (directory / "config.json").write_text(json.dumps({"text_config": CONFIG}))
    assert resolve(directory).context == 32


def test_a_pipe_in_place_of_a_config_is_refused_and_not_waited_for(directory):
    (directory / "config.json").unlink()
    os.mkfifo(directory / "config.json")
    assert "expected a model directory with config.json, found none there" in refusal(directory)


@pytest.mark.parametrize("name", ["~no-such-user/model", "x" * 300, "./a\0b", "/" + "y" * 5000])
def test_a_name_that_no_path_can_have_is_one_line(name):
    with pytest.raises(UserError, match="model: expected 'embedded'"):
        models.resolve(name, [], Path("nowhere"))
