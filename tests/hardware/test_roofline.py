import pytest
from builders import LLAMA_2_7B, LLAMA_3_8B

from enginebench.hardware import roofline
from enginebench.hardware.roofline import Ceiling, Shape

# 2 layers, 8 wide, 2 heads of 4 of which 1 is kept: attention 8·4·(4+2) = 192, MLP 3·8·16 = 384,
# output projection 10·8 = 80: 2·(192 + 384) + 80 = 1232 weights.
TINY = Shape(2, 8, 2, 1, 4, 16, 10)
SLOW = Ceiling("slow", 1000.0, {"float16": 1e6}, "made up")


def test_weights_read_in_a_step_are_counted_by_hand():
    assert TINY.weights_read == 1232
    assert TINY.flops_per_token == 2464


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        (LLAMA_2_7B, 524_288),
        (LLAMA_3_8B, 131_072),
        (LLAMA_2_7B | {"num_key_value_heads": 1}, 16_384),  # multi-query attention
    ],
)
def test_kv_bytes_a_token_in_float16(config, expected):
    assert roofline.shape(config).kv_bytes_per_token(2) == expected


def test_llama_2_7b_reads_its_known_number_of_weights():
    """6,738,415,616 parameters less the embedding table and the norms (65 · 4096)."""
    expected = 6_738_415_616 - 32_000 * 4096 - 65 * 4096
    assert roofline.shape(LLAMA_2_7B).weights_read == expected


def test_a_mixture_reads_only_the_experts_of_one_token():
    mixture = LLAMA_3_8B | {"num_local_experts": 8, "num_experts_per_tok": 2}
    extra = roofline.shape(mixture).weights_read - roofline.shape(LLAMA_3_8B).weights_read
    assert extra == 32 * 3 * 4096 * 14336


def test_latent_attention_is_refused_and_missing_sizes_are_named():
    with pytest.raises(roofline.UnknownShape, match="latent"):
        roofline.shape(LLAMA_2_7B | {"kv_lora_rank": 512})
    with pytest.raises(roofline.UnknownShape, match="vocab_size"):
        roofline.shape({k: v for k, v in LLAMA_2_7B.items() if k != "vocab_size"})


def test_a_decoding_step_reads_weights_once_and_every_context():
    # (1232 weights + 2 sequences · 5 tokens · 2·2·1·4 = 16 a token) · 2 bytes / 1000 bytes/s
    assert roofline.decode_step_s(TINY, SLOW, "float16", [5, 5]) == pytest.approx(2.784)


def test_a_window_bounds_what_is_read():
    windowed = Shape(2, 8, 2, 1, 4, 16, 10, window=3)
    assert roofline.decode_step_s(windowed, SLOW, "float16", [5, 5]) == pytest.approx(2.656)


def test_prefill_is_bound_by_arithmetic_when_that_is_slower():
    fast_memory = Ceiling("x", 1e12, {"float16": 1000.0}, "made up")
    # 3 tokens · 2464 less 2 · 2 · 80 that are never projected
    assert roofline.prefill_s(TINY, fast_memory, "float16", 3) == pytest.approx(7.072)


def test_a_cell_of_one_request_is_its_steps_one_after_another():
    steps = [roofline.decode_step_s(TINY, SLOW, "float16", [n]) for n in (4, 5, 6)]
    assert roofline.cell_s(TINY, SLOW, "float16", {(4, 4): 1}, 1) == pytest.approx(sum(steps))


def test_concurrency_shares_the_reading_of_weights():
    alone = roofline.cell_s(TINY, SLOW, "float16", {(4, 5): 4}, 1)
    together = roofline.cell_s(TINY, SLOW, "float16", {(4, 5): 4}, 4)
    assert alone - together == pytest.approx(12 * 1232 * 2 / 1000)


@pytest.mark.parametrize(
    ("name", "expected"),
    [("FP16", "float16"), ("torch.bfloat16", "bfloat16"), ("awq", "int4"), ("fp99", None)],
)
def test_precisions_have_many_names(name, expected):
    assert roofline.dtype_name(name) == expected
