import math
from dataclasses import replace

import pytest
from builders import LLAMA_2_7B

from enginebench.hardware import roofline
from enginebench.hardware.model_shape import Layer, ModelShape, Quantization
from enginebench.hardware.roofline import Ceiling, Dtypes, UnknownShape

FLOAT16 = Dtypes("float16", "float16")
SLOW = Ceiling("slow", 1000.0, {"float16": 1e6}, "made up")

# 2 layers, 8 wide, 2 heads of 4 of which 1 is kept: attention 8·4·(4+2) = 192, MLP 3·8·16 = 384,
# output projection 10·8 = 80: 2·(192 + 384) + 80 = 1232 weights. A token's cache: 2·2·1·4 = 16.
LAYER = Layer(attention=192, mlp=384, kv_heads=1, kv_head_values=8)
TINY = ModelShape(model_type="tiny", hidden=8, vocabulary=10, layers=(LAYER,) * 2, is_tied=False)


def windowed(window):
    layers = (replace(LAYER, window=window),) * 2
    return replace(TINY, layers=layers)


def test_weights_read_in_a_step_are_counted_by_hand():
    assert TINY.weights_read == 1232
    assert TINY.flops_per_token == 2464


def test_llama_2_7b_reads_its_known_number_of_weights():
    """6,738,415,616 parameters less the embedding table and the norms (65 · 4096)."""
    expected = 6_738_415_616 - 32_000 * 4096 - 65 * 4096
    assert roofline.shape(LLAMA_2_7B).weights_read == expected


def test_a_decoding_step_reads_weights_once_and_every_context():
    # (1232 weights + 2 sequences · 5 tokens · 16) · 2 bytes / 1000 bytes/s
    assert roofline.decode_step_s(TINY, SLOW, FLOAT16, [5, 5]) == pytest.approx(2.784)


def test_a_window_bounds_what_is_read():
    assert roofline.decode_step_s(windowed(3), SLOW, FLOAT16, [5, 5]) == pytest.approx(2.656)


def test_keys_and_values_have_a_dtype_of_their_own():
    # 1232 · 2 bytes + 2 · 5 · 16 · 1 byte
    found = roofline.decode_step_s(TINY, SLOW, Dtypes("float16", "fp8"), [5, 5])
    assert found == pytest.approx(2.624)


def test_prefill_is_bound_by_arithmetic_when_that_is_slower():
    fast_memory = Ceiling("x", 1e12, {"float16": 1000.0}, "made up")
    # 3 tokens · 2464 less 2 · 2 · 80 that are never projected
    assert roofline.prefill_s(TINY, fast_memory, FLOAT16, 3) == pytest.approx(7.072)


def test_a_dtype_without_a_known_rate_is_bound_by_memory_alone():
    slow_products = Ceiling("x", 1e12, {"float16": 1.0}, "made up")
    found = roofline.prefill_s(TINY, slow_products, Dtypes("fp8", "fp8"), 3)
    assert found == pytest.approx(1232e-12)


def test_quantized_activations_may_be_computed_at_their_own_rate():
    quantized = replace(TINY, quantization=Quantization("fp8", {"mlp": 8.0}, compute="fp8"))
    ceiling = Ceiling("x", 1e12, {"float16": 1000.0, "fp8": 2000.0}, "made up")
    assert roofline.prefill_s(quantized, ceiling, FLOAT16, 3) == pytest.approx(3.536)
    unknown = Ceiling("x", 1e12, {"float16": 1000.0}, "made up")
    assert roofline.prefill_s(quantized, unknown, FLOAT16, 3) < 1e-6


def test_a_cell_of_one_request_is_its_steps_one_after_another():
    steps = [roofline.decode_step_s(TINY, SLOW, FLOAT16, [n]) for n in (4, 5, 6)]
    assert roofline.cell_s(TINY, SLOW, FLOAT16, {(4, 4): 1}, 1) == pytest.approx(sum(steps))


@pytest.mark.parametrize(
    ("layer", "reads"),
    [
        # before each of 6 steps 3, 4, ... 8 tokens are cached
        (LAYER, 3 + 4 + 5 + 6 + 7 + 8),
        (replace(LAYER, window=5), 3 + 4 + 5 + 5 + 5 + 5),
        (replace(LAYER, chunk=4), 3 + 0 + 1 + 2 + 3 + 0),
    ],
)
def test_what_attention_reads_is_the_sum_over_steps(layer, reads):
    model = replace(TINY, layers=(layer,))
    assert model.kv_read_bytes(3, 9, 2.0) == reads * 8 * 2


def test_concurrency_shares_the_reading_of_weights():
    alone = roofline.cell_s(TINY, SLOW, FLOAT16, {(4, 5): 4}, 1)
    together = roofline.cell_s(TINY, SLOW, FLOAT16, {(4, 5): 4}, 4)
    assert alone - together == pytest.approx(12 * 1232 * 2 / 1000)


def test_a_batch_may_overlap_its_prefill_with_its_decode():
    """Llama-2-7B on an A100, 32 requests of 1,024 + 256 tokens.

    Memory: 255 steps · 13.214 GB of weights, and 32 · 524,288 bytes · (1,024 + ... + 1,278 =
    293,505 tokens) = 8,293.7 GB / 2.039 TB/s = 4.07 s. The prefill's arithmetic of 1.4 s fits in.
    """
    a100 = Ceiling("a100", 2.039e12, {"float16": 312e12}, "data sheet")
    model = roofline.shape(LLAMA_2_7B)
    found = roofline.batch_s(model, a100, FLOAT16, 32, 1024, 256)
    weights, cache = 255 * 2 * 6_607_077_376, 32 * 524_288 * 293_505
    assert found == pytest.approx((weights + cache) / 2.039e12)
    assert found == pytest.approx(4.07, abs=0.01)


def test_one_request_is_its_prefill_and_then_its_steps():
    one = roofline.request_s(TINY, SLOW, FLOAT16, 4, 4)
    # Steps move 5, 6 and 7 tokens of the cache: read those before, write their own.
    steps = [(1232 + tokens * 16) * 2 / 1000 for tokens in (5, 6, 7)]
    prefill = roofline.prefill_s(TINY, SLOW, FLOAT16, 4)
    assert one == pytest.approx(prefill + sum(steps))
    assert roofline.batch_s(TINY, SLOW, FLOAT16, 1, 4, 4) == one


def test_a_huge_output_is_summed_at_once():
    found = roofline.batch_s(windowed(3), SLOW, FLOAT16, 1, 10**9, 10**9)
    assert 1e9 < found < math.inf


def test_tokens_that_a_cache_gave_are_not_computed():
    slow_products = Ceiling("x", 1e12, {"float16": 1000.0}, "made up")
    bounds = [roofline.request_s(TINY, slow_products, FLOAT16, 4, 1, 1, n) for n in (0, 3, 4)]
    # 4 tokens · 2464 less 3 · 2 · 80 that are never projected; then the last token alone, which
    # no cache can give.
    assert bounds == pytest.approx([9.376, 2.464, 2.464])
    cells = [roofline.cell_s(TINY, slow_products, FLOAT16, {(4, 1): 2}, 1, 1, n) for n in (0, 3)]
    assert cells == pytest.approx([2 * 9.376, 2 * 2.464])


def test_what_a_cache_gave_may_be_read_once_for_all_requests_of_a_step():
    # 4 steps · 1232 weights · 2 bytes, and for each of 4 requests (4 + 5 + 6 + 7) tokens · 16 · 2
    # bytes less 4 steps · 3 tokens · 16 · 2.
    found = roofline.cell_s(TINY, SLOW, FLOAT16, {(4, 5): 4}, 4, 1, 3)
    assert found == pytest.approx((9856 + 4 * (704 - 384)) / 1000)
    # Of a window of 3 tokens no more is left out than is read.
    found = roofline.cell_s(windowed(3), SLOW, FLOAT16, {(4, 5): 4}, 4, 1, 4)
    assert found == pytest.approx(9.856)


def test_one_request_reads_all_of_its_context_whoever_computed_it():
    own, given = (roofline.request_s(TINY, SLOW, FLOAT16, 4, 4, 1, n) for n in (0, 3))
    prefills = [roofline.prefill_s(TINY, SLOW, FLOAT16, n) for n in (4, 1)]
    assert own - given == pytest.approx(prefills[0] - prefills[1])


def test_speculation_gets_several_tokens_from_one_reading():
    plain = roofline.cell_s(TINY, SLOW, FLOAT16, {(4, 5): 4}, 1)
    assert roofline.cell_s(TINY, SLOW, FLOAT16, {(4, 5): 4}, 1, 4) == pytest.approx(plain / 4)
    whole = roofline.request_s(TINY, SLOW, FLOAT16, 4, 5, math.inf)
    prefill = roofline.prefill_s(TINY, SLOW, FLOAT16, 4)
    assert whole == pytest.approx(prefill + 4 * 2464 / 1e6)  # its arithmetic remains


def test_weights_quantized_in_an_unknown_way_have_no_bound():
    unknown = replace(TINY, quantization=Quantization("odd", unknown="odd is not worked out"))
    with pytest.raises(UnknownShape, match="odd is not worked out"):
        roofline.decode_step_s(unknown, SLOW, FLOAT16, [5])


def test_a_checkpoint_may_set_the_dtype_of_keys_and_values():
    stored = replace(TINY, quantization=Quantization("x", {}, kv_dtype="fp8"))
    assert roofline.run_dtypes(stored, "bfloat16") == Dtypes("bfloat16", "fp8")
    assert roofline.run_dtypes(stored, "bfloat16", "bfloat16") == Dtypes("bfloat16", "bfloat16")
    assert roofline.run_dtypes(TINY, "bfloat16") == Dtypes("bfloat16", "bfloat16")


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("FP16", "float16"), ("torch.bfloat16", "bfloat16"), ("awq", "int4"), ("nvfp4", "fp4"),
        ("fp99", None), ("gptq", None), ("auto", None),
    ],
)  # fmt: skip
def test_precisions_have_many_names(name, expected):
    assert roofline.dtype_name(name) == expected
