"""What a recorded cell of a quantized model is held to."""

import json

import pytest
from builders import launch, model
from project import ROOT

from enginebench.hardware.roofline import Dtypes
from enginebench.hardware.run_options import RunOptions, run_options
from enginebench.summarize.ceiling_shares import model_shape, run_dtypes, weights_bytes

HALF = launch(dtype="float16")
CONFIGS = json.loads((ROOT / "tests/data/model_configs.json").read_text())


def test_quantized_weights_take_what_their_files_hold():
    config = CONFIGS["llama-2-7b-awq"]["config"]
    assert weights_bytes(model(config, weights_bytes=34_112), HALF) == 34_112
    assert weights_bytes(model(config, parameters=14_992), HALF) is None


def test_other_weights_take_the_dtype_that_they_are_run_in():
    known = model(CONFIGS["llama-3-8b"]["config"], parameters=100, weights_bytes=200)
    assert weights_bytes(known, launch(dtype="float32")) == 400
    assert weights_bytes(known, launch()) is None
    assert weights_bytes(known, None) is None  # it was never started
    assert weights_bytes(model({}), HALF) is None


def test_a_form_that_is_not_known_has_no_shape():
    assert model_shape(model({"model_type": "odd"})) is None


@pytest.mark.parametrize(
    ("command", "expected"),
    [
        (["serve", "--dtype=bfloat16"], RunOptions()),
        (["serve", "--kv-cache-dtype", "fp8"], RunOptions("fp8")),
        (["serve", "--kv-cache-dtype", "auto", "--quantization=none"], RunOptions()),
        (["serve", "--quantize", "fp8", "--port=1"], RunOptions(None, True)),
        (["serve", "--speculative-config={}"], RunOptions(None, False, True)),
        (["serve", "--speculate", "0"], RunOptions()),
        (["--assist=draft", "--draft-model=/m"], RunOptions(None, False, True)),
        (["--assist=prompt-lookup", "--draft-model="], RunOptions(None, False, True)),
        (["--assist=off", "--draft-model=", "--candidate-tokens=3"], RunOptions()),
        (["serve", "--load-in-4bit"], RunOptions(None, True)),
    ],
)
def test_options_that_change_the_bound_are_read_from_the_command(command, expected):
    assert run_options({"command": command}) == expected
    assert run_options({"env": {"QUANTIZE": "awq"}}) == RunOptions(None, True)
    assert run_options({}) == RunOptions()


def test_weights_that_the_engine_quantizes_have_no_known_size():
    known = model(CONFIGS["llama-3-8b"]["config"], parameters=100)
    quantized = launch(dtype="float16", command=["serve", "--quantization", "fp8"])
    assert weights_bytes(known, quantized) is None


def test_keys_and_values_are_of_the_dtype_that_the_engine_was_given():
    def dtypes(dtype="float16", command=()):
        return run_dtypes(shape, launch(dtype=dtype, command=list(command)))

    shape = model_shape(model(CONFIGS["llama-3-8b"]["config"]))
    assert dtypes() == Dtypes("float16", "float16")
    assert dtypes(command=["serve", "--kv-cache-dtype=fp8_e4m3"]) == Dtypes("float16", "fp8")
    assert dtypes(command=["--kv-cache-dtype=odd"]) is None
    assert dtypes(dtype=None) is None
