"""Which image an engine runs in, and what is shown while it is pulled."""

import dataclasses

import pytest
from project import ROOT

from enginebench.base.errors import UserError
from enginebench.engines import directory
from enginebench.launch import environment, images


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


@pytest.mark.parametrize(
    ("image", "version"),
    [
        ("vllm/vllm-openai:v0.33.0", "0.33.0"),
        ("vllm/vllm-openai-cpu:v0.33.0-x86_64", "0.33.0"),
        ("host:5000/tgi:3.3.7-intel-cpu", "3.3.7"),
        ("nvcr.io/release:1.4.0rc1", "1.4.0rc1"),
        ("host:5000/mine", None),
        ("mine:latest", None),
        ("mine@sha256:0123", None),
    ],
)
def test_an_image_s_tag_may_state_a_version(image, version):
    found = images.tag_version(image)
    assert (None if found is None else str(found)) == version


@pytest.mark.parametrize(("device", "version"), [("cpu", "0.32.0"), ("cuda", "0.33.0")])
def test_the_version_of_an_engine_is_the_one_that_its_recipe_pins(device, version):
    engine = directory.load_engine(ROOT, "vllm")
    assert str(environment.pinned_version(engine, device)) == version
    unnamed = dataclasses.replace(engine, version_of=())
    assert environment.pinned_version(unnamed, device) is None
