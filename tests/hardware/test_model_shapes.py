"""Current models of different kinds against their known sizes.

The configs in tests/data/model_configs.json have those keys of the files at their ``source`` that
matter. Totals are the parameters that the classes of huggingface/transformers 5.19 have with these
configs (counted on torch's meta device on 2026-11-26); the comments hold them against what the
makers' cards state. Weights read and KV bytes are worked out by hand.
"""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from project import ROOT

from enginebench.hardware.model_config import shape
from enginebench.hardware.model_shape import UnknownShape

CONFIGS = {
    name: entry["config"]
    for name, entry in json.loads((ROOT / "tests/data/model_configs.json").read_text()).items()
}

#: name -> parameters, weights that a step reads at least, KV bytes a token in 16 bits
MODELS = {
    # Dense, grouped-query attention. 32 layers · 2 · 8 · 128 · 2; read: all but the embedding table
    # (128,256 · 4,096) and the norms (65 · 4,096).
    "llama-3-8b": (8_030_261_248, 8_030_261_248 - 525_336_576 - 266_240, 131_072),
    # Biases of q, k and v: 80 · (8,192 + 2 · 1,024). 80 · 2 · 8 · 128 · 2.
    "qwen2.5-72b": (72_706_203_648, 71_458_357_248, 327_680),
    "mistral-7b-v0.1": (7_241_732_096, 7_110_393_856, 131_072),
    "mistral-7b-v0.3": (7_248_023_552, 7_113_539_584, 131_072),
    "phi-3-mini": (3_821_079_552, 3_722_379_264, 393_216),
    # Tied by default: the table is there once, and read once a step.
    "gemma-7b": (8_537_680_896, 8_537_680_896 - 57 * 3072, 458_752),
    "gemma-2-9b": (9_241_705_984, 9_241_705_984 - (4 * 42 + 1) * 3584, 344_064),
    "command-r": (34_980_831_232, 34_980_831_232 - 41 * 8192, 1_310_720),
    # The language part; cards: 4 B and 27 B with a vision part of 0.4 B.
    "gemma-3-4b": (3_880_263_168, 3_879_895_040, 139_264),
    "gemma-3-27b": (27_009_346_304, 27_007_991_808, 507_904),
    # MLPs of two matrices. pythia-6.9b: 32 · (4 · 4,096² + 2 · 4,096 · 16,384) + 50,432 · 4,096.
    "pythia-6.9b": (6_857_302_016, 32 * 201_326_592 + 206_569_472, 524_288),
    "phi-2": (2_779_683_840, 2_647_654_400, 327_680),
    "opt-1.3b": (1_315_758_080, 1_310_916_608, 196_608),
    "starcoder2-7b": (7_173_923_840, 7_172_259_840, 65_536),
    # One KV head: 32 · 2 · 64 · 2. The file holds the tied table twice (7.22 B); memory does not.
    "falcon-7b": (6_921_720_704, 6_921_420_800, 8_192),
    # Experts. Mixtral: 2 of 8 in 32 layers, 12.9 B active with the embedding table.
    "mixtral-8x7b": (46_702_792_704, 12_748_587_008, 131_072),
    # 8 of 128, 768 wide: 48 · 3 · 2,048 · 768 · 128 = 28.99 B of experts, 1.81 B of them read.
    "qwen3-30b-a3b": (30_532_122_624, 3_041_656_832, 98_304),
    "qwen2-57b-a14b": (57_408_658_944, 13_704_398_848, 57_344),
    # A dense layer first, one shared expert; card: 106 B and 12 B active.
    "glm-4.5-air": (106_851_591_808, 12_802_326_528, 188_416),
    # Card: 20.9 B and 3.6 B active; 116.8 B and 5.1 B active.
    "gpt-oss-20b": (20_914_757_184, 3_607_142_400, 49_152),
    "gpt-oss-120b": (116_829_156_672, 5_131_100_160, 73_728),
    # Card: 109 B with a vision part, 17 B active with the embedding table (1.03 B).
    "llama-4-scout": (107_769_861_120, 16_137_912_320, 196_608),
    # Latent attention: 61 · (512 + 64) · 2 bytes. Cards: 671 B and 37 B active; 1 T and 32 B
    # active; 16 B and 2.4 B active.
    "deepseek-v3": (671_026_419_200, 36_624_596_992, 70_272),
    "kimi-k2": (1_026_408_232_448, 31_686_066_176, 70_272),
    "deepseek-v2-lite": (15_706_484_224, 2_451_308_544, 31_104),
    # Layers of constant state. KV of 4 of 32 layers: 4 · 2 · 8 · 128 · 2; of 4 of 52; of 4 of 40.
    "jamba-v0.1": (51_570_323_328, 11_836_325_888, 16_384),
    "nemotron-h-8b": (8_100_852_736, 7_562_330_112, 16_384),
    "granite-4-h-tiny": (6_939_037_248, 1_464_631_296, 8_192),
    # 12 of 48 layers: 12 · 2 · 2 · 256 · 2. Card: 80 B, 3 B active (without the tables).
    "qwen3-next-80b": (79_674_391_296, 3_562_373_120, 24_576),
    "falcon-mamba-7b": (7_272_665_088, 6_994_001_920, 0),
    # Quantized: as many parameters as unquantized.
    "llama-2-7b-awq": (6_738_415_616, 6_607_077_376, 524_288),
    "llama-3.1-70b-fp8": (70_553_706_496, 69_501_714_432, 327_680),
}


@pytest.mark.parametrize("name", MODELS)
def test_a_model_has_the_size_that_its_makers_state(name):
    found = shape(CONFIGS[name])
    parameters, read, kv_bytes = MODELS[name]
    assert found.weights == parameters
    assert found.weights_read == read
    assert found.kv_bytes_per_token(2) == kv_bytes


def test_a_layer_pattern_that_varies_from_layer_to_layer_is_refused():
    with pytest.raises(UnknownShape, match="nemotron-nas"):
        shape(CONFIGS["nemotron-super-49b"])


def test_sliding_layers_keep_their_window_and_full_ones_everything():
    gemma = shape(CONFIGS["gemma-2-9b"])
    # 21 of 42 layers slide over 4,096 tokens; a layer's token takes 2 · 8 · 256 · 2 bytes.
    assert gemma.kv_bytes(8192, 2) == 21 * 8192 * (8192 + 4096)
    # Every sixth of 62 layers is full: 10. Past the window only those grow.
    gemma3 = shape(CONFIGS["gemma-3-27b"])
    assert gemma3.kv_bytes(2001, 2) - gemma3.kv_bytes(2000, 2) == 10 * 2 * 16 * 128 * 2
    # In whole blocks: 130 tokens take 9 of 16 in full layers; sliding ones keep 128, 8 blocks.
    gpt_oss = shape(CONFIGS["gpt-oss-20b"])
    assert gpt_oss.kv_bytes(130, 2, block=16) == 12 * 2 * 8 * 64 * 2 * (144 + 128)


def test_a_window_that_is_switched_off_is_none():
    qwen = CONFIGS["qwen2.5-72b"]
    assert shape(qwen).window is None
    switched_on = shape(qwen | {"use_sliding_window": True, "max_window_layers": 60})
    assert [(c.layers, c.window) for c in switched_on.caches] == [(60, None), (20, 131072)]
    assert shape(CONFIGS["mistral-7b-v0.3"]).window is None


def test_chunked_attention_restarts_with_each_chunk():
    scout = shape(CONFIGS["llama-4-scout"])
    assert [(c.layers, c.chunk) for c in scout.caches] == [(36, 8192), (12, None)]
    per_layer = 2 * 8 * 128 * 2
    assert scout.kv_read_bytes(8192, 8193, 2) == 12 * per_layer * 8192
    assert scout.kv_read_bytes(8191, 8192, 2) == 48 * per_layer * 8191


def test_a_latent_cache_is_copied_to_every_device():
    deepseek = shape(CONFIGS["deepseek-v3"])
    assert deepseek.kv_bytes_per_token(2, shards=8) == 70_272
    assert shape(CONFIGS["llama-3-8b"]).kv_bytes_per_token(2, shards=4) == 131_072 / 4


def test_constant_states_are_counted_by_hand():
    # Mamba, 28 of 32 layers: 8,192 · (16 + 3 taps before this one).
    assert shape(CONFIGS["jamba-v0.1"]).state_values == 28 * 8192 * 19
    # Mamba-2, 24 layers: 128 · 64 · 128, and 3 of (8,192 + 2 · 8 · 128).
    expected = 24 * (128 * 64 * 128 + 3 * 10_240)
    assert shape(CONFIGS["nemotron-h-8b"]).state_values == expected
    # Gated delta rule, 36 layers: 32 · 128 · 128, and 3 of (2 · 2,048 + 4,096).
    assert shape(CONFIGS["qwen3-next-80b"]).state_values == 36 * (32 * 128 * 128 + 3 * 8192)
    assert shape(CONFIGS["llama-3-8b"]).state_values == 0


def test_a_bound_takes_the_least_experts_and_an_estimate_the_likely_ones():
    qwen = shape(CONFIGS["qwen3-30b-a3b"])
    chosen = 48 * 8 * 3 * 2048 * 768
    assert qwen.read_parts["experts"] == chosen  # a batch may agree on its experts
    assert qwen.expected_weights_read(1) == pytest.approx(qwen.weights_read)
    # With 32 sequences an expert stays unread with (1 - 8/128)^32 = 0.1268.
    grown = qwen.expected_weights_read(32) - (qwen.weights_read - chosen)
    assert grown == pytest.approx(48 * 128 * 3 * 2048 * 768 * (1 - 0.1268), rel=1e-3)


def test_parts_that_are_not_counted_are_named():
    assert shape(CONFIGS["gemma-3-4b"]).left_out == ("the parts that see or hear",)
    draft = CONFIGS["glm-4.5-air"] | {"num_nextn_predict_layers": 1}
    assert shape(draft).left_out == ("multi-token prediction",)
    assert shape(CONFIGS["llama-3-8b"]).left_out == ()


LLAMA = CONFIGS["llama-3-8b"]


def without(key):
    return {name: value for name, value in LLAMA.items() if name != key}


@pytest.mark.parametrize(
    ("config", "reason"),
    [
        ({}, "does not state model_type"),
        (LLAMA | {"model_type": None}, "does not state model_type"),
        (LLAMA | {"model_type": ["llama"]}, "does not state model_type"),
        (LLAMA | {"model_type": "t5"}, "models of type t5"),
        (without("vocab_size"), "does not state vocab_size"),
        (LLAMA | {"hidden_size": None}, "does not state hidden_size"),
        (LLAMA | {"hidden_size": "4096"}, "hidden_size is '4096', expected a whole number"),
        (LLAMA | {"hidden_size": float("nan")}, "hidden_size is nan"),
        (LLAMA | {"hidden_size": float("inf")}, "hidden_size is inf"),
        (LLAMA | {"hidden_size": 4096.5}, "hidden_size is 4096.5"),
        (LLAMA | {"hidden_size": True}, "hidden_size is True"),
        (LLAMA | {"hidden_size": -4096}, "hidden_size is -4096"),
        (LLAMA | {"hidden_size": 10**40}, "hidden_size is 1"),
        (LLAMA | {"hidden_size": [4096]}, "hidden_size is list"),
        (LLAMA | {"num_hidden_layers": 2_000_000}, "at most 10000"),
        (LLAMA | {"num_attention_heads": 31}, "is not divided by 31 heads"),
        (LLAMA | {"num_key_value_heads": 64}, "64 KV heads of 32 heads"),
        (LLAMA | {"tie_word_embeddings": "no"}, "tie_word_embeddings"),
        (LLAMA | {"attention_bias": 1}, "attention_bias is 1, expected true or false"),
        (LLAMA | {"layer_types": ["full_attention"]}, "1 layer_types for 32 layers"),
        (LLAMA | {"layer_types": [["mamba"]] * 32}, "expected a list of words"),
        (LLAMA | {"layer_types": ["mamba"] * 32}, "layers of type mamba"),
        # A key that may change the form is not passed over.
        (LLAMA | {"kv_lora_rank": 512}, "sets kv_lora_rank"),
        (LLAMA | {"num_experts": 8}, "sets num_experts"),
        (LLAMA | {"sliding_window": 4096}, "sets sliding_window"),
        (LLAMA | {"block_configs": [{"attention": {}}]}, "sets block_configs"),
        (CONFIGS["deepseek-v3"] | {"index_n_heads": 64, "attn_indexer": 1}, "not worked out"),
        (CONFIGS["qwen3-30b-a3b"] | {"num_experts_per_tok": 129}, "129 experts a token of 128"),
        (CONFIGS["qwen3-30b-a3b"] | {"use_sliding_window": True}, "use_sliding_window"),
        (CONFIGS["opt-1.3b"] | {"word_embed_proj_dim": 512}, "another width"),
        (CONFIGS["nemotron-h-8b"] | {"hybrid_override_pattern": "M" * 51}, "51 for 52 layers"),
        (CONFIGS["nemotron-h-8b"] | {"hybrid_override_pattern": "X" * 52}, "kind X"),
    ],
)
def test_what_is_not_understood_is_refused_in_words(config, reason):
    with pytest.raises(UnknownShape, match=reason):
        shape(config)


@pytest.mark.parametrize(
    "more",
    [
        {"torch_dtype": "bfloat16", "attention_dropout": 0.0, "rms_norm_eps": 1e-5},
        {"kv_lora_rank": None, "num_experts": 0, "use_sliding_window": False, "block_configs": []},
        {"hidden_size": 4096.0, "sliding_window": None},
        {"layer_types": ["full_attention"] * 32},
    ],
)
def test_what_changes_nothing_is_passed_over(more):
    assert shape(LLAMA | more).weights == 8_030_261_248


def test_the_language_part_is_found_one_level_down_with_its_neighbours():
    nested = {
        "model_type": "x",
        "tie_word_embeddings": True,
        "text_config": without("tie_word_embeddings"),
    }
    assert shape(nested).weights == 8_030_261_248 - 128_256 * 4096
    quantized = {"text_config": LLAMA, "quantization_config": {"quant_method": "odd"}}
    assert shape(quantized).quantization.unknown is not None


SMALL = json.loads((ROOT / "tests/data/small_models.json").read_text())


@pytest.mark.parametrize("entry", SMALL, ids=lambda entry: entry["config"]["model_type"])
def test_a_small_model_of_each_type_has_as_many_parameters_as_its_class_makes(entry):
    """Counts of the classes of huggingface/transformers 5.19, built on torch's meta device."""
    assert shape(entry["config"]).weights == entry["parameters"]


VALUES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-2, 2**70),
    st.floats(),
    st.text(max_size=4),
    st.lists(st.one_of(st.integers(-1, 9), st.text(max_size=9), st.none()), max_size=3),
    st.dictionaries(st.text(max_size=3), st.integers(), max_size=2),
)


@settings(max_examples=300, deadline=None)
@given(data=st.data())
def test_no_config_ends_in_anything_but_a_shape_or_words(data):
    config = dict(data.draw(st.sampled_from([*SMALL, *SMALL_QUANTIZED]))["config"])
    for key in data.draw(st.lists(st.sampled_from(sorted(config)), max_size=3)):
        config[key] = data.draw(VALUES)
    try:
        found = shape(config)
        found.weights_bytes(2)
    except UnknownShape as error:
        assert "\n" not in str(error)
    else:
        assert 0 < found.weights_read <= found.weights + found.vocabulary * found.hidden
        assert found.kv_bytes(1000, 2) >= 0


SMALL_QUANTIZED = [
    {"config": SMALL[0]["config"] | {"quantization_config": {"quant_method": method, "bits": 4}}}
    for method in ("awq", "gptq", "fp8", "compressed-tensors", "modelopt", None)
]
