import pytest

from enginebench.hardware import data_sheets, model_names

TABLE = data_sheets.table("models.yaml")


@pytest.mark.parametrize(
    ("name", "rows"),
    [
        ("meta-llama/Llama-2-7b-chat-hf", ["llama-2-7b"]),
        ("Llama 2 7B", ["llama-2-7b"]),
        ("Llama2-7B", ["llama-2-7b"]),
        ("meta-llama/Meta-Llama-3-8B-Instruct", ["llama-3-8b"]),
        ("huggyllama/llama-7b", ["llama-7b"]),
        ("mistral-7b-instruct-v0.3", ["mistral-7b-v0.3"]),
        ("mistral-7b", ["mistral-7b-v0.1", "mistral-7b-v0.2", "mistral-7b-v0.3"]),
        ("Mixtral-8x7B", ["mixtral-8x7b-v0.1"]),
        # Other models than those of the table.
        ("CodeLlama-7b", []),
        ("Qwen/Qwen2.5-7B", []),
        ("Llama-3-8B-Instruct-Gradient-1048k", []),
        ("Llama-3-8B-1M", []),
        ("OpenHermes-2.5-Mistral-7B", []),
        ("TinyLlama-1.1B", []),
        ("", []),
    ],
)
def test_a_name_means_a_model_only_as_a_whole(name, rows):
    assert [row["name"] for row in model_names.find(name, TABLE).rows] == rows


@pytest.mark.parametrize(
    ("name", "is_quantized", "precision"),
    [
        ("Llama-2-7B-AWQ", True, "int4"),
        ("TheBloke/Llama-2-7B-GPTQ", True, None),
        ("Llama-2-7B-GPTQ-Int4", True, "int4"),
        ("Meta-Llama-3.1-8B-Instruct-quantized.w4a16", True, "int4"),
        ("llama-3-8b-fp8", True, "fp8"),
        ("llama-3.3-70b-instruct-nvfp4", True, "fp4"),
        ("llama-2-7b.gguf", True, None),
        ("llama-2-7b-w4a16-fp8", True, None),
        ("llama-2-7b-fp16", False, None),
    ],
)
def test_a_quantized_name_says_so(name, is_quantized, precision):
    found = model_names.find(name, TABLE)
    assert found.rows
    assert (found.is_quantized, found.precision) == (is_quantized, precision)
