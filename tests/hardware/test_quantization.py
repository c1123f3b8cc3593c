import json

import pytest
from project import ROOT

from enginebench.hardware.model_config import shape
from enginebench.hardware.model_shape import UnknownShape

CONFIGS = json.loads((ROOT / "tests/data/model_configs.json").read_text())
LLAMA = CONFIGS["llama-3-8b"]["config"]
MIXTURE = CONFIGS["qwen3-30b-a3b"]["config"]


def stored(config, **settings):
    return shape(config | {"quantization_config": settings})


def compressed(weights, **more):
    group = {"targets": ["Linear"], "weights": weights, "input_activations": None}
    settings = {"config_groups": {"group_0": group}, "ignore": ["lm_head"]}
    return {"quant_method": "compressed-tensors", **settings, **more}


@pytest.mark.parametrize(
    ("settings", "bits"),
    [
        # 4 bits, and for 128 of them a scale of 16 bits and a zero point of 4
        ({"quant_method": "awq", "bits": 4, "group_size": 128, "zero_point": True}, 4 + 20 / 128),
        ({"quant_method": "gptq", "bits": 4, "group_size": 64, "sym": True}, 4 + 16 / 64),
        ({"quant_method": "gptq", "bits": 8, "group_size": -1, "sym": True}, 8),
        ({"quant_method": "fp8", "weight_block_size": [128, 128]}, 8 + 32 / 16384),
        ({"quant_method": "fp8", "activation_scheme": "static"}, 8),
        ({"quant_method": "bitsandbytes", "load_in_4bit": True}, 4.5),
        ({"quant_method": "bitsandbytes", "load_in_8bit": True}, 8),
        ({"quant_method": "modelopt", "quant_algo": "NVFP4", "ignore": ["lm_head"]}, 4.5),
        (compressed({"num_bits": 8, "type": "int", "strategy": "channel"}), 8),
        (compressed({"num_bits": 4, "type": "int", "strategy": "group", "group_size": 128,
                     "symmetric": True}), 4 + 16 / 128),
        (compressed({"num_bits": 4, "type": "float", "strategy": "tensor_group",
                     "group_size": 16}), 4.5),
    ],
)  # fmt: skip
def test_bits_a_weight_include_its_share_of_the_scales(settings, bits):
    found = stored(LLAMA, **settings)
    assert found.quantization.bits == {"attention": bits, "mlp": bits}


def test_only_the_matrices_of_the_layers_are_quantized():
    awq = shape(CONFIGS["llama-2-7b-awq"]["config"])
    # 6,476,005,376 weights in 4.15625 bits; the tables (2 · 131,072,000) and norms (266,240) in 16.
    expected = 6_476_005_376 * 4.15625 / 8 + (262_144_000 + 266_240) * 2
    assert awq.weights_bytes(2) == expected  # 3.89 GB, as the file on the hub
    read = 6_476_005_376 * 4.15625 / 8 + 131_072_000 * 2
    assert awq.read_bytes(2) == read
    assert 2 * 6_607_077_376 / read == pytest.approx(3.6, abs=0.05)  # times the bound in float16


def test_mxfp4_is_of_the_experts_alone():
    model = shape(CONFIGS["gpt-oss-20b"]["config"])
    experts = 24 * 32 * 3 * 2880 * 2880
    assert model.quantization.bits == {"experts": 4.25}
    assert model.weights_bytes(2) == experts * 4.25 / 8 + (model.weights - experts) * 2
    assert model.weights_bytes(2) / 1e9 == pytest.approx(13.76, abs=0.01)  # size of its files


def test_the_head_is_a_linear_layer_unless_it_is_named():
    settings = compressed({"num_bits": 8, "type": "float", "strategy": "tensor"}, ignore=[])
    assert stored(LLAMA, **settings).quantization.bits["head"] == 8
    assert "head" not in shape(CONFIGS["llama-3.1-70b-fp8"]["config"]).quantization.bits


def test_activations_decide_what_the_products_are_computed_in():
    assert shape(CONFIGS["llama-3.1-70b-fp8"]["config"]).quantization.compute == "fp8"
    assert stored(LLAMA, quant_method="awq", bits=4).quantization.compute is None
    settings = compressed({"num_bits": 8, "type": "float", "strategy": "tensor"},
                          kv_cache_scheme={"num_bits": 8})  # fmt: skip
    assert stored(LLAMA, **settings).quantization.kv_dtype == "fp8"


@pytest.mark.parametrize(
    ("kept", "parts"),
    [
        (["lm_head"], {"attention", "router", "experts"}),
        (["lm_head", "re:.*mlp.gate$"], {"attention", "experts"}),
        (["model.layers.*.self_attn", "model.visual", "lm_head"], {"router", "experts"}),
        (["gate", "model.layers.48.mlp"], {"attention", "experts"}),  # a 49th: prediction
    ],
)
def test_parts_that_stay_as_they_are_are_read_from_the_list(kept, parts):
    found = stored(MIXTURE, quant_method="fp8", modules_to_not_convert=kept)
    assert found.quantization.unknown is None
    assert set(found.quantization.bits) == parts


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"quant_method": "hqq"}, "weights quantized by hqq are not worked out here"),
        ({"bits": 4}, "unnamed"),
        ({"quant_method": "awq", "bits": "4"}, "bits is 4"),
        ({"quant_method": "awq", "bits": 4, "group_size": 0}, "group_size"),
        ({"quant_method": "gptq", "bits": 4, "dynamic": {"+:x": {"bits": 8}}}, "for some layers"),
        ({"quant_method": "fp8", "weight_block_size": [0, 128]}, "weight_block_size"),
        ({"quant_method": "fp8", "ignored_layers": "lm_head"}, "no list of names"),
        ({"quant_method": "fp8", "ignored_layers": ["model.layers.0.self_attn"]}, "only some"),
        ({"quant_method": "fp8", "ignored_layers": ["re:(a+)+$"]}, "the pattern"),
        ({"quant_method": "fp8", "ignored_layers": ["decoder.fc1"]}, "stays as it is"),
        ({"quant_method": "modelopt", "quant_algo": "W4A8_AWQ"}, "quant_algo W4A8_AWQ"),
        ({"quant_method": "compressed-tensors", "config_groups": {}}, "one group"),
        (compressed({"num_bits": 5}), "num_bits is 5"),
        ({"quant_method": "bitsandbytes"}, "neither load_in_4bit"),
    ],
)
def test_an_unknown_quantization_has_no_bytes_but_keeps_its_cache(settings, reason):
    found = stored(LLAMA, **settings)
    with pytest.raises(UnknownShape, match=reason):
        found.weights_bytes(2)
    assert found.kv_bytes_per_token(2) == 131_072


def test_a_quantization_that_is_no_object_is_unknown():
    found = shape(LLAMA | {"quantization_config": "awq"})
    with pytest.raises(UnknownShape, match="no object"):
        found.read_bytes(2)
