"""Facts of a few rows of argonne-lcf/LLM-Inference-Bench, Plots/All_results.csv, and of others."""

import pytest

from enginebench.base.errors import UserError
from enginebench.hardware import published_results

HEADING = (
    "Hardware,Num of Hardware,Framework,Model,Input Output Length,Batch Size,Latency,Throughput"
)

# Impossible: 2048 tokens in the time of about one prefill. The engines stopped at the end of
# sequence (or at the end of the context) and the tokens were counted as if they had not.
IMPOSSIBLE = [
    "Nvidia H100 GPU,1,TensorRT-LLM,Qwen/Qwen2-7B,2048,1,0.0826,49586",
    "Nvidia H100 GPU,1,TensorRT-LLM,Qwen/Qwen2-7B,2048,16,0.848,77285",
    "Nvidia H100 GPU,1,TensorRT-LLM,Qwen/Qwen2-7B,2048,32,1.696,77271",
    "Nvidia H100 GPU,1,TensorRT-LLM,Qwen/Qwen2-7B,2048,64,3.392,77279",
    "Nvidia H100 GPU,2,TensorRT-LLM,Qwen/Qwen2-7B,2048,1,0.06,68263",
    "Nvidia H100 GPU,2,TensorRT-LLM,Qwen/Qwen2-7B,2048,16,0.5877,111522",
    "Nvidia H100 GPU,2,TensorRT-LLM,Qwen/Qwen2-7B,2048,32,1.199,109361",
    "Nvidia H100 GPU,2,TensorRT-LLM,Qwen/Qwen2-7B,2048,64,2.589,101249",
    "Nvidia H100 GPU,4,TensorRT-LLM,Qwen/Qwen2-7B,2048,1,0.05169,79239",
    "Nvidia H100 GPU,4,TensorRT-LLM,Qwen/Qwen2-7B,2048,16,0.4988,131384",
    "Nvidia H100 GPU,4,TensorRT-LLM,Qwen/Qwen2-7B,2048,32,1.048,125067",
    "Nvidia H100 GPU,4,TensorRT-LLM,Qwen/Qwen2-7B,2048,64,2.267,115644",
    "Nvidia GH200 GPU,1,vLLM,huggyllama/llama-7b,2048,1,0.04750498800012792,86222.52467443988",
    "Nvidia GH200 GPU,1,vLLM,huggyllama/llama-7b,2048,64,3.19279409700016,82104.88745462839",
]
# Merely fast: the quickest rows of the same table for their model, device and batch.
FAST = [
    "Nvidia H100 GPU,1,TensorRT-LLM,meta-llama/Meta-Llama-3-8B,1024,64,,7497",
    "Nvidia H100 GPU,1,TensorRT-LLM,meta-llama/Meta-Llama-3-8B,128,64,,12070",
    "Nvidia A100 GPU,1,TensorRT-LLM,meta-llama/Meta-Llama-3-8B,1024,1,,138",
    "Nvidia GH200 GPU,1,vLLM,huggyllama/llama-7b,128,1,0.8497027640000852,301.28182565259294",
    "Nvidia GH200 GPU,1,vLLM,huggyllama/llama-7b,1024,64,29.863328509999974,4389.061988053659",
    "Habana Gaudi2,1,Deepspeed,mistralai/Mistral-7B-v0.1,256,1,1.88193318300182,272.06066858512",
    "Habana Gaudi2,4,Deepspeed,meta-llama/Meta-Llama-3-8B,128,64,1.0965639110072516,14941.2175936",
    "Nvidia A100 GPU,4,Deepspeed-MII,meta-llama/Llama-2-70b-hf,128,1,5.273342609405518,48.5460587",
]


def check(tmp_path, lines, heading=HEADING, precision="float16", counts="total"):
    file = tmp_path / "table.csv"
    file.write_text("\n".join([heading, *lines]) + "\n")
    return published_results.check_file(file, precision, counts)


@pytest.mark.parametrize("line", IMPOSSIBLE)
def test_a_row_faster_than_memory_allows_is_impossible(tmp_path, line):
    (row,) = check(tmp_path, [line])
    assert row.verdict == "impossible"
    assert row.bound_s > row.claimed_s


@pytest.mark.parametrize("line", FAST)
def test_a_row_that_is_merely_fast_passes(tmp_path, line):
    (row,) = check(tmp_path, [line])
    assert row.verdict == "possible"
    assert row.bound_s < row.claimed_s


def test_the_bound_of_the_worst_row_is_that_of_2047_readings_of_the_weights(tmp_path):
    (row,) = check(tmp_path, IMPOSSIBLE[:1])
    weights = 2 * 7_070_619_136  # Qwen2-7B without its embedding table, norms and biases
    assert row.bound_s > 2048 * weights / 3.35e12
    assert row.bound_s == pytest.approx(2048 * weights / 3.35e12, rel=0.03)  # the rest is KV
    assert row.bound_s / row.claimed_s == pytest.approx(106, abs=1)


def test_our_own_headings_and_precision_are_understood(tmp_path):
    heading = "model,gpu,precision,batch,in,out,throughput"
    rows = check(
        tmp_path,
        ["mistral-7b,A100-80GB,fp16,1,128,128,206.6", "mistral-7b,A100-80GB,int8,1,128,128,206.6"],
        heading,
        counts="output",
    )
    assert [row.verdict for row in rows] == ["impossible", "possible"]


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("Abacus,1,x,meta-llama/Llama-2-7b-hf,128,1,2,1", "no data sheet here for 'Abacus'"),
        ("Nvidia H100 GPU,1,x,someone/unknown,128,1,2,1", "no shape here for 'someone/unknown'"),
        ("Nvidia H100 GPU,1,x,meta-llama/Llama-2-7b-hf,128,1,,", "must be above 0"),
        (
            "Nvidia H100 GPU,1,x,meta-llama/Llama-2-7b-hf,128,one,2,1",
            "expected a number, found 'on",
        ),
    ],
)
def test_a_row_that_cannot_be_judged_is_said_to_be_unchecked(tmp_path, line, reason):
    (row,) = check(tmp_path, [line])
    assert row.verdict == "not checked"
    assert reason in row.reason


def test_a_table_without_the_needed_columns_says_which_were_found(tmp_path):
    with pytest.raises(UserError, match=r"expected columns model, gpu, .* found: a, b"):
        check(tmp_path, ["1,2"], "a,b")
    with pytest.raises(UserError, match="expected a CSV file, found none"):
        published_results.check_file(tmp_path / "gone.csv", "float16", "output")
