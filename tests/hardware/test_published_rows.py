"""Rows as people write them: read in one way, not checked with a reason, or refused in a line."""

import pytest

from enginebench.base.errors import UserError
from enginebench.hardware import published_results

HEADING = "model,gpu,precision,batch,in,out,latency"


def check(tmp_path, *lines, heading=HEADING, counts="output", encoding="utf-8"):
    file = tmp_path / "table.csv"
    file.write_text("\n".join([heading, *lines]) + "\n", encoding=encoding)
    return published_results.check_file(file, "float16", counts)


@pytest.mark.parametrize(
    ("heading", "line", "claimed_s"),
    [
        (HEADING, "llama-2-7b,a100,float16,1,128,128,2.0", 2.0),
        (HEADING, "llama-2-7b,a100,float16,1,128,128,2.0 s", 2.0),
        (HEADING, "llama-2-7b,a100,float16,1,128,128,2000 ms", 2.0),
        (HEADING + " ms", "llama-2-7b,a100,float16,1,128,128,2000", 2.0),
        (HEADING + " (ms)", "llama-2-7b,a100,float16,1,128,128,2e3", 2.0),
        (HEADING + "_s", 'llama-2-7b,a100,float16,1,128,128,"1,234.5"', 1234.5),
        (HEADING.replace(",", ";"), "llama-2-7b;a100;float16;1;128;128;2,0", 2.0),
        (HEADING.replace(",", ";"), "llama-2-7b;a100;float16;1;128;128;1.234,5", 1234.5),
        (HEADING.replace(",", "\t"), "llama-2-7b\ta100\tfloat16\t1\t128\t128\t2.0", 2.0),
        (HEADING + ",itls", f'llama-2-7b,a100,float16,1,128,128,2.0,"{"0.01, " * 30_000}"', 2.0),
        # 64 · 128 tokens at 2,345.6 tokens/s
        ("model,gpu,batch,in,out,Throughput (tokens/s)", 'llama-2-7b,a100,64,128,128,"2,345.6"',
         8192 / 2345.6),
        ("model,gpu,batch,in,out,total throughput", "llama-2-7b,a100,64,128,128,4096", 4.0),
        ("model,gpu,batch,in,out,output throughput", "llama-2-7b,a100,64,128,128,4096", 2.0),
    ],
)  # fmt: skip
def test_a_time_is_read_in_its_unit(tmp_path, heading, line, claimed_s):
    (row,) = check(tmp_path, line, heading=heading)
    assert row.verdict == "possible", row.reason
    assert row.claimed_s == pytest.approx(claimed_s)


def test_a_byte_order_mark_is_no_part_of_a_heading(tmp_path):
    (row,) = check(tmp_path, "llama-2-7b,a100,float16,1,128,128,2.0", encoding="utf-8-sig")
    assert row.verdict == "possible"


@pytest.mark.parametrize(
    ("cells", "reason"),
    [
        ("1,128,128,nan", "latency: expected a number, found 'nan'"),
        ("1,128,128,inf", "latency: expected a number, found 'inf'"),
        ("inf,128,128,2", "batch: expected a number, found 'inf'"),
        ("1.5,128,128,2", "batch must be a whole number, found 1.5"),
        ("1e300,128,128,2", "batch must be a possible count"),
        ("1,0,128,2", "input must be above 0, found 0"),
        ("1,128,-5,2", "output must be above 0, found -5"),
        ("1,128,128,95%", "latency: expected a number, found '95%'"),
        ("1,128,128,0", "latency must be above 0"),
        ('1,128,128,"2,345"', "latency: expected a number"),  # thousands, or decimals
        ("1,128,128,2 min", "latency: expected a number"),
        ("1,128,128,", "latency or throughput must be above 0, found nothing"),
        ("1", "input must be above 0, found nothing"),
    ],
)
def test_a_number_that_is_none_or_may_be_two_is_not_checked(tmp_path, cells, reason):
    (row,) = check(tmp_path, f"llama-2-7b,a100,float16,{cells}")
    assert row.verdict == "not checked"
    assert reason in row.reason


def test_a_cell_that_is_no_name_by_its_length_is_not_read(tmp_path):
    (row,) = check(tmp_path, f"llama-2-7b,a100{'(' * 100_000},float16,1,128,128,2")
    assert row.verdict == "not checked"
    assert row.reason == "gpu must be at most 500 characters, found more"


@pytest.mark.parametrize("gpu", ["8 x A100", "8xA100", "A100 x8", "8 A100", "A100 (x8)", "A100 8x"])
def test_the_number_of_gpus_in_their_name_counts(tmp_path, gpu):
    # 2 · 69 GB of weights, 127 times, over 8 · 2.039 TB/s: 1.07 s. On one GPU: 8.6 s.
    (row,) = check(tmp_path, f"llama-2-70b,{gpu},float16,1,128,128,2.2")
    assert row.verdict == "possible", row.reason
    (row,) = check(tmp_path, f"llama-2-70b,{gpu},float16,1,128,128,0.9")
    assert row.verdict == "impossible"
    assert "8 × " in row.reason


@pytest.mark.parametrize(
    "gpu", ["DGX A100", "2 x 8 x A100", "A100 + H100", "2 nodes A100", "0 x A100", "NVL72 GB200"]
)
def test_gpus_whose_number_is_not_clear_are_not_checked(tmp_path, gpu):
    (row,) = check(tmp_path, f"llama-2-70b,{gpu},float16,1,128,128,0.1")
    assert row.verdict == "not checked"


@pytest.mark.parametrize(
    ("columns", "cells", "gpus"),
    [("gpus,tp", "8,1", 8), ("gpus,tp", ",8", 8), ("tp,pp", "4,2", 8), ("gpus,dp", "4,8", 8),
     ("tp,nodes", "4,2", 8), ("tp", "", 1)],
)  # fmt: skip
def test_all_columns_of_parallelism_count(tmp_path, columns, cells, gpus):
    line = f"llama-2-70b,h100,fp8,64,128,128,0.001,{cells}"
    (row,) = check(tmp_path, line, heading=f"{HEADING},{columns}")
    assert f"fp8 on {gpus} × h100" in row.reason


def test_a_count_in_the_name_that_contradicts_a_column_is_not_checked(tmp_path):
    line = "llama-2-70b,8xA100,float16,1,128,128,0.1,4"
    (row,) = check(tmp_path, line, heading=HEADING + ",gpus")
    assert row.reason == "the GPU's name states 8 GPUs, the columns 4"
    (row,) = check(tmp_path, line.replace(",4", ",1"), heading=HEADING + ",gpus")
    assert row.verdict == "impossible"


@pytest.mark.parametrize(
    ("dtype", "quantization", "expected"),
    [("bfloat16", "", "bfloat16"), ("bfloat16", "none", "bfloat16"), ("bfloat16", "fp8", "fp8"),
     ("", "awq", "int4"), ("", "", "float16"), ("AWQ-INT4", "", "int4"), ("nvfp4", "", "fp4")],
)  # fmt: skip
def test_a_quantization_goes_before_the_dtype_beside_it(tmp_path, dtype, quantization, expected):
    heading = "model,gpu,dtype,quantization,batch,in,out,latency"
    (row,) = check(
        tmp_path, f"llama-2-7b,h100,{dtype},{quantization},1,128,128,0.001", heading=heading
    )
    assert row.verdict == "impossible"
    assert f"; {expected} on 1 × h100" in row.reason


@pytest.mark.parametrize("precision", ["auto", "bf16/fp16", "gptq", "4.5bpw", "mixed"])
def test_a_precision_that_is_not_clear_is_not_checked(tmp_path, precision):
    (row,) = check(tmp_path, f"llama-2-7b,a100,{precision},1,128,128,0.001")
    assert row.reason == f"unknown precision {precision!r}"


@pytest.mark.parametrize(
    ("model", "precision", "verdict"),
    [
        # 230 tokens/s on an A100: too fast for float16 (154), not for 4 bits (617).
        ("Llama-2-7B-AWQ", "", "possible"),
        ("TheBloke/Llama-2-7B-GPTQ", "", "not checked"),
        ("TheBloke/Llama-2-7B-GPTQ", "int4", "possible"),
        ("Llama-2-7B-AWQ", "float16", "not checked"),  # of the activations, no doubt
        ("Llama-2-7B", "", "impossible"),
        ("Llama-2-7B-tuned", "", "not checked"),
        ("llama-2-7b-q4_0.gguf", "", "not checked"),
    ],
)
def test_a_quantized_model_is_not_held_to_float16(tmp_path, model, precision, verdict):
    heading = "model,gpu,precision,batch,in,out,throughput"
    (row,) = check(tmp_path, f"{model},a100,{precision},1,128,128,230", heading=heading)
    assert row.verdict == verdict


@pytest.mark.parametrize(
    ("more", "cells", "is_checked"),
    [
        ("notes", "with speculative decoding", False),
        ("engine", "vLLM + EAGLE-3", False),
        ("speculative", "yes", False),
        ("draft model", "llama-68m", False),
        ("num speculative tokens", "4", False),
        ("num speculative tokens", "0", True),
        ("speculative", "no", True),
        ("notes", "no speculative decoding", True),
        ("notes", "greedy", True),
    ],
)
def test_speculation_is_not_held_to_one_token_a_reading(tmp_path, more, cells, is_checked):
    line = f"llama-3-70b,h100,fp8,1,128,128,1.8,{cells}"
    (row,) = check(tmp_path, line, heading=f"{HEADING},{more}")
    assert row.verdict == ("impossible" if is_checked else "not checked")
    assert is_checked or "speculative decoding" in row.reason


def test_keys_and_values_may_have_a_column_of_their_own(tmp_path):
    heading = HEADING + ",kv cache dtype"
    line = "llama-2-7b,a100,float16,64,128,2048,0.01,"
    bounds = [check(tmp_path, line + kv, heading=heading)[0].bound_s for kv in ("", "fp8")]
    # 64 · 524,288 bytes · (128 + ... + 2,174 = 2,356,097 tokens), half as many in fp8
    assert bounds[0] - bounds[1] == pytest.approx(64 * 524_288 * 2_356_097 / 2 / 2.039e12)


def test_a_version_that_is_left_open_is_held_to_the_least_of_all(tmp_path):
    names = ("mistral-7b", "mistral-7b-v0.1", "mistral-7b-v0.3")
    lines = [f"{name},a100,float16,1,8192,512,0.1" for name in names]
    bounds = [row.bound_s for row in check(tmp_path, *lines)]
    assert bounds[0] == bounds[1] < bounds[2]


def test_a_batch_may_overlap_prefill_and_decode(tmp_path):
    # A100, 32 · (1,024 + 256): 4.07 s by memory; 5.43 s if prefill came first.
    slow, fast = check(
        tmp_path,
        "llama-2-7b,a100,float16,32,1024,256,4.5",
        "llama-2-7b,a100,float16,32,1024,256,4.0",
    )
    assert (slow.verdict, fast.verdict) == ("possible", "impossible")


def test_a_throughput_of_unknown_kind_is_named(tmp_path):
    heading = "model,gpu,precision,batch,in,out,throughput"
    line = "llama-3-8b,h100,bf16,1,2048,128,2000"
    (row,) = check(tmp_path, line, heading=heading)
    assert "not if its throughput counts prompt tokens too (--counts total)" in row.reason
    (row,) = check(tmp_path, line, heading=heading, counts="total")
    assert row.verdict == "possible"


def test_two_columns_that_mean_the_same_must_agree(tmp_path):
    heading = HEADING + ",concurrency"
    same, other = check(
        tmp_path,
        "llama-2-7b,a100,float16,4,128,128,2,4",
        "llama-2-7b,a100,float16,4,128,128,2,64",
        heading=heading,
    )
    assert same.verdict == "possible"
    assert other.reason == "two columns for batch, with '4' and '64'"


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "expected columns model"),
        (b"\xff\xfem\x00o\x00", "not UTF-8 text"),
        (HEADING.encode() + b",model\n", "each heading once, found 'model' twice"),
        (HEADING.encode() + b'\na,"' + b"x" * (17 << 20) + b'"\n', "expected a CSV file, found"),
    ],
)
def test_a_file_that_is_no_table_is_refused_in_one_line(tmp_path, content, reason):
    file = tmp_path / "table.csv"
    file.write_bytes(content)
    with pytest.raises(UserError, match=reason) as error:
        published_results.check_file(file, "float16", "output")
    assert "\n" not in str(error.value)
