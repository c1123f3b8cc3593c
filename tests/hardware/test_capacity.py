import json

import pytest
from builders import LLAMA_2_7B, LLAMA_3_8B

from enginebench.base.errors import UserError
from enginebench.hardware import capacity
from enginebench.hardware.roofline import UnknownShape, shape

MULTI_QUERY = LLAMA_2_7B | {"num_key_value_heads": 1}


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
    assert capacity.fit(shape(config), "float16", dtype, 80e9, 4096).kv_bytes_per_token == per_token


@pytest.mark.parametrize(
    ("config", "weights"), [(LLAMA_2_7B, 6_738_415_616), (LLAMA_3_8B, 8_030_261_248)]
)
def test_weights_are_counted_to_the_last_norm(config, weights):
    assert shape(config).weights == weights


def test_a_tied_table_is_there_once_and_all_experts_are_there():
    tied = shape(LLAMA_2_7B | {"tie_word_embeddings": True})
    assert shape(LLAMA_2_7B).weights - tied.weights == 32000 * 4096
    mixture = shape(LLAMA_2_7B | {"num_local_experts": 8, "num_experts_per_tok": 2})
    assert mixture.weights - shape(LLAMA_2_7B).weights == 7 * 32 * 3 * 4096 * 11008


def test_what_the_weights_leave_is_divided_into_tokens_and_requests():
    fit = capacity.fit(shape(LLAMA_2_7B), "float16", "float16", 24e9 * 0.9, 4096)
    assert fit.weights_bytes == 13_476_831_232
    assert fit.kv_bytes == 21_600_000_000 - 13_476_831_232
    assert (fit.tokens, fit.requests) == (15_493, 3)  # 8,123,168,768 / 524,288; / 4,096


def test_weights_that_do_not_fit_leave_no_token():
    fit = capacity.fit(shape(LLAMA_2_7B), "float16", "float16", 10e9, 4096)
    assert (fit.fits, fit.tokens, fit.requests) == (False, 0, 0)


def test_a_sliding_window_is_refused_where_it_would_slide():
    model = shape(LLAMA_3_8B | {"sliding_window": 4096})
    assert capacity.fit(model, "float16", "float16", 80e9, 4096).tokens > 0
    with pytest.raises(UnknownShape, match="keeps 4096 tokens of 4097"):
        capacity.fit(model, "float16", "float16", 80e9, 4097)


@pytest.mark.parametrize(
    ("tokens", "length", "block", "requests"),
    [(16384, 512, 128, 32), (16384, 513, 128, 25), (16383, 512, 128, 31), (100, 30, 1, 3)],
)
def test_a_request_takes_whole_blocks(tokens, length, block, requests):
    assert capacity.requests_that_fit(tokens, length, block) == requests


def test_a_config_is_found_by_file_directory_or_name(tmp_path):
    file = tmp_path / "config.json"
    file.write_text(json.dumps(LLAMA_3_8B))
    assert capacity.load_config(str(file))[1] == LLAMA_3_8B
    assert capacity.load_config(str(tmp_path)) == (tmp_path.name, LLAMA_3_8B)
    name, config = capacity.load_config("meta-llama/Llama-2-7b-hf")
    assert (name, config["hidden_size"]) == ("llama-2-7b", 4096)


def test_a_config_of_a_model_with_several_senses_gives_its_language_model(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({"text_config": LLAMA_3_8B}))
    assert capacity.load_config(str(tmp_path))[1] == LLAMA_3_8B


@pytest.mark.parametrize("text", ["[1]", "{", "nothing"])
def test_a_config_that_is_none_is_one_line(tmp_path, text):
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(UserError, match=r"config\.json: expected"):
        capacity.load_config(str(tmp_path))


def test_latent_attention_is_refused_by_name():
    with pytest.raises(UserError, match="deep: multi-head latent attention"):
        capacity.known_shape("deep", LLAMA_2_7B | {"kv_lora_rank": 512})
