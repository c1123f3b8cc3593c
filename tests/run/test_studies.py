"""The studies of this repository: each can be planned, and a GPU's says what a machine lacks."""

import pytest
from project import ROOT

from enginebench.plan import plan, study_file
from enginebench.run import left_out, prepare
from enginebench.run.left_out import Place

STUDIES = sorted((ROOT / "studies").glob("*.yaml"))
GPU = ROOT / "studies" / "decompose-gpu.yaml"
#: Switch of the GPU's factorial -> the variant that turns it off.
OFF = {
    "batching": "one-sequence",
    "compilation": "eager",
    "chunked prefill": "no-chunked-prefill",
    "async scheduling": "no-async-scheduling",
}


@pytest.fixture(scope="module")
def gpu_study():
    study = study_file.load(GPU)
    return study, prepare.load_engines(study, ROOT, str(GPU))


@pytest.mark.parametrize("runner", ["process", "container"])
@pytest.mark.parametrize("path", STUDIES, ids=lambda path: path.stem)
def test_every_study_of_this_repository_can_be_planned(path, runner):
    study, reasons = prepare.planned(study_file.load(path), ROOT, str(path), runner)
    assert plan.make(study).launches
    assert all(reasons.values())


CONTAINERS = {"device": "cuda", "in_containers": True}
OLDER = "needs compute capability 8.9, the GPU has 8.0"


@pytest.mark.parametrize(
    ("place", "lacks"),
    [
        (Place(**CONTAINERS, capability=9.0), {}),
        (
            Place(**CONTAINERS, capability=8.0),
            {
                "vllm/fp8": f"fp8 {OLDER}",
                "tgi/prefix-cache-kv-fp8": f"kv-fp8 {OLDER}",
                "tgi/fp8": f"fp8 {OLDER}",
                "trtllm/prefix-cache-kv-fp8": f"kv-fp8 {OLDER}",
            },
        ),
        (
            Place(**CONTAINERS, capability=9.0, images={"trtllm": "trtllm/release:1.3.0"}),
            {"trtllm/tensorrt": "tensorrt needs the engine's version <1.3, it is 1.3.0"},
        ),
    ],
    ids=["all", "an older GPU", "a newer image"],
)
def test_the_ladders_of_a_gpu_leave_out_what_the_machine_lacks(gpu_study, place, lacks):
    kept, reasons = left_out.possible(*gpu_study, place)
    assert reasons == lacks
    assert len(kept.engines) == len(gpu_study[0].engines) - len(lacks)


def test_without_containers_the_ladders_of_the_engines_that_need_them_are_left_out(gpu_study):
    _, reasons = left_out.possible(*gpu_study, Place(device="cuda", in_containers=False))
    assert {label.partition("/")[0] for label in reasons} == {"tgi", "trtllm"}
    assert all("container" in reason for reason in reasons.values())


def test_the_switches_of_the_gpu_study_are_those_that_its_variants_turn(gpu_study):
    study, _ = gpu_study
    (made,) = (one for one in study.decompositions if one.switches)
    declared = {variant.label: set(variant.declared) for variant in study.engines}
    for label, on in made.runs.items():
        turned = {name for name, off in OFF.items() if off not in declared[label]}
        assert set(on) == turned | ({"int8"} if "w8a8" in declared[label] else set())
        assert declared[label] <= {*OFF.values(), "w8a8"}
