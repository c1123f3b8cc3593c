import json
import os
from dataclasses import replace

import pytest
from builders import LLAMA_2_7B, LLAMA_3_8B

from enginebench.base.errors import UserError
from enginebench.hardware import capacity
from enginebench.hardware.capacity import Pool
from enginebench.hardware.roofline import Dtypes, shape

FLOAT16 = Dtypes("float16", "float16")
WHOLE = Pool(block_tokens=1, reserved_blocks=0)
MULTI_QUERY = LLAMA_2_7B | {"num_key_value_heads": 1}
MISTRAL = LLAMA_3_8B | {"model_type": "mistral", "vocab_size": 32000, "sliding_window": 4096}


@pytest.mark.parametrize(
    ("config", "dtype", "per_token"),
    [
        (LLAMA_2_7B, "float16", 524_288),  # 2 · 32 · 32 · 128 · 2
        (LLAMA_3_8B, "float16", 131_072),  # grouped: 8 of 32 heads have keys and values
        (MULTI_QUERY, "float16", 16_384),
        (LLAMA_3_8B, "fp8", 65_536),
    ],
)
def test_a_token_takes_two_vectors_a_layer_and_kv_head(config, dtype, per_token):
    found = capacity.fit(shape(config), Dtypes("float16", dtype), 80e9, 4096)
    assert found.kv_bytes_per_token == per_token


@pytest.mark.parametrize(
    ("devices", "per_token"),
    # 8 KV heads: 2 on each of 4, 1 on each of 8, and then they are copied. 2 · 32 · heads · 128 · 2
    [(1, 131_072), (4, 32_768), (8, 16_384), (16, 16_384), (3, 49_152)],
)
def test_devices_beyond_the_kv_heads_hold_copies(devices, per_token):
    found = capacity.fit(shape(LLAMA_3_8B), FLOAT16, 24e9, 4096, devices)
    assert found.kv_bytes_per_token == per_token
    assert found.weights_bytes == 2 * 8_030_261_248 / devices


def test_what_the_weights_leave_is_divided_into_tokens_and_requests():
    fit = capacity.fit(shape(LLAMA_2_7B), FLOAT16, 24e9 * 0.9, 4096, pool=WHOLE)
    assert fit.weights_bytes == 13_476_831_232
    assert fit.kv_bytes == 21_600_000_000 - 13_476_831_232
    assert (fit.tokens, fit.requests) == (15_493, 3)  # 8,123,168,768 / 524,288; / 4,096


def test_tokens_come_in_whole_blocks_of_which_some_are_kept_back():
    fit = capacity.fit(shape(LLAMA_2_7B), FLOAT16, 24e9 * 0.9, 4096)
    assert fit.tokens == 15_472  # 15,493 / 16 = 968 blocks, less one: 967 · 16


def test_weights_that_do_not_fit_leave_no_token():
    fit = capacity.fit(shape(LLAMA_2_7B), FLOAT16, 10e9, 4096)
    assert (fit.fits, fit.tokens, fit.requests) == (False, 0, 0)


def test_a_sliding_window_keeps_no_more_than_its_tokens():
    model = shape(MISTRAL)
    short = capacity.fit(model, FLOAT16, 80e9, 4096)
    long = capacity.fit(model, FLOAT16, 80e9, 32768)
    assert short.request_bytes == long.request_bytes == 4096 * 131_072
    assert short.requests == long.requests
    # (80e9 - 2 · 7,241,732,096 - 16 · 131,072) / 536,870,912
    assert long.requests == 122
    text = capacity.lines("m", model, long, FLOAT16, 32768, "s")
    assert any("for the last 4,096 tokens at most" in line for line in text)
    assert any("keeps the whole context in every layer needs 4,294,967,296" in t for t in text)


@pytest.mark.parametrize(
    ("tokens", "length", "block", "requests"),
    [(16384, 512, 128, 32), (16384, 513, 128, 25), (16383, 512, 128, 31), (100, 30, 1, 3)],
)
def test_a_request_takes_whole_blocks(tokens, length, block, requests):
    assert capacity.requests_that_fit(tokens, length, block) == requests


def test_a_reserved_block_is_no_requests():
    assert capacity.requests_that_fit(16384, 512, 128, reserved_blocks=1) == 31


def test_a_config_is_found_by_file_directory_or_name(tmp_path):
    file = tmp_path / "config.json"
    file.write_text(json.dumps(LLAMA_3_8B))
    assert capacity.load_config(str(file))[1] == LLAMA_3_8B
    assert capacity.load_config(str(tmp_path)) == (tmp_path.name, LLAMA_3_8B)
    name, config = capacity.load_config("meta-llama/Llama-2-7b-hf")
    assert (name, config["hidden_size"]) == ("llama-2-7b", 4096)


def test_a_version_decides_the_shape():
    name, config = capacity.load_config("mistralai/Mistral-7B-Instruct-v0.3")
    assert name == "mistral-7b-v0.3"
    assert shape(config).window is None
    assert shape(config).weights == 7_248_023_552
    assert shape(capacity.load_config("mistral-7b-v0.1")[1]).window == 4096
    with pytest.raises(UserError, match=r"expected one version .*v0\.1, .*v0\.2, .*v0\.3"):
        capacity.load_config("mistral-7b")


@pytest.mark.parametrize(
    "name", ["someone/Llama-2-7b-hf", "TheBloke/Llama-2-7B-AWQ", "meta-llama/Llama-2-7b-tuned"]
)
def test_another_model_is_looked_up_and_not_taken_for_its_base(name, monkeypatch, tmp_path):
    other = tmp_path / "config.json"
    other.write_text(json.dumps(LLAMA_2_7B | {"vocab_size": 32016}))
    monkeypatch.setattr(capacity, "_from_hub", lambda asked: other)
    found, config = capacity.load_config(name)
    assert (found, config["vocab_size"]) == (name, 32016)


@pytest.mark.parametrize("text", ["[1]", "{", "nothing", "[" * 100_000])
def test_a_config_that_is_none_is_one_line(tmp_path, text):
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(UserError, match=r"config\.json: expected"):
        capacity.load_config(str(tmp_path))


def test_a_form_that_is_not_known_is_refused_by_name():
    with pytest.raises(UserError, match=r"deep: config\.json sets kv_lora_rank"):
        capacity.known_shape("deep", LLAMA_2_7B | {"kv_lora_rank": 512})


def test_a_state_is_counted_once_a_request():
    model = shape(LLAMA_2_7B)
    hybrid = replace(model, layers=tuple(replace(x, state_values=1000) for x in model.layers))
    plain = capacity.fit(model, FLOAT16, 80e9, 4096)
    assert capacity.fit(hybrid, FLOAT16, 80e9, 4096).request_bytes == plain.request_bytes + 64_000


@pytest.mark.parametrize("name", ["x" * 300, "~no-such-user/config.json", "/" + "y" * 5000, "a\0b"])
def test_a_name_that_no_path_can_have_is_one_line(name):
    with pytest.raises(UserError, match="expected"):
        capacity.load_config(name)


def test_a_config_is_read_as_it_is_saved_and_a_pipe_is_not_waited_for(tmp_path):
    file = tmp_path / "config.json"
    file.write_bytes(b"\xef\xbb\xbf" + json.dumps(LLAMA_2_7B).encode())
    assert capacity.load_config(str(file))[1] == LLAMA_2_7B
    file.unlink()
    os.mkfifo(file)
    for name in (file, "/dev/zero"):
        with pytest.raises(UserError, match=r"found: a (pipe|device)"):
            capacity.load_config(str(name))
