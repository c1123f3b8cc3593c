"""Which image an engine runs in, and what is shown while it is pulled."""

import pytest
from project import ROOT

from enginebench.base.errors import UserError
from enginebench.engines import directory
from enginebench.launch import images


def test_a_pull_says_how_far_it_is():
    layers = [(1 << 30, 2 << 30), (1 << 30, 2 << 30)]
    assert images.progress_text(layers, 30) == "2.0 of 4.0 GiB pulled, about 30 s left"
    assert images.progress_text([], 30) == "waiting for the registry"


def test_tensorrt_llm_says_plainly_that_it_needs_a_gpu():
    engine = directory.load_engine(ROOT, "trtllm")
    with pytest.raises(UserError, match=r"trtllm/launch\.yaml: .* needs an NVIDIA GPU; run it on"):
        images.name(engine, "cpu")
    assert images.name(engine, "cuda") == "nvcr.io/nvidia/tensorrt-llm/release:1.2.1"
    assert images.name(directory.load_engine(ROOT, "vllm"), "cpu").startswith(
        "vllm/vllm-openai-cpu:"
    )
