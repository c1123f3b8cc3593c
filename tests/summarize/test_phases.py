from collections import defaultdict
from types import SimpleNamespace

import pytest
from builders import LLAMA_2_7B, launch, model

from enginebench.base.estimator import Interval
from enginebench.hardware.roofline import Ceiling
from enginebench.record.schema_study import OutputRange, Workload
from enginebench.summarize import length_grid, phases
from enginebench.summarize.groups import Group
from enginebench.summarize.study_summary import Summary

#: One byte a second and one FLOP a second in float16: floors are bytes and FLOPs.
UNIT = Ceiling("unit", 1.0, {"float16": 1.0}, "made up")
A100 = Ceiling("A100", 2.039e12, {"float16": 312e12}, "data sheet")


def group(label, workload, concurrency=1, **seconds):
    figures = defaultdict(lambda: None)
    figures |= {name: Interval(value, None, None, 1) for name, value in seconds.items()}
    engine, variant = label.split("/")
    return Group(label, engine, variant, workload, concurrency, None, 1, 1, 1, figures, None)


def summary(lengths, groups, ceiling=None, config=LLAMA_2_7B):
    """A study with workloads called <prompt>-<output>, of variants in float16."""
    workloads = [
        Workload(name=f"{prompt}-{output}", prompt_tokens=prompt, output_tokens=output)
        for prompt, output in lengths
    ]
    labels = list(dict.fromkeys(g.label for g in groups))
    launches = {
        label: launch(**dict(zip(("engine", "variant"), label.split("/"), strict=True)),
                      dtype="float16")
        for label in labels
    }  # fmt: skip
    study = SimpleNamespace(study=SimpleNamespace(workloads=workloads), model=model(config))
    return Summary(
        study, launches, True, 0, (), tuple(groups), labels[0] if labels else "", (),
        ceiling_before=ceiling,
    )  # fmt: skip


def by_name(found):
    return {phase.name: phase for phase in found}


def test_prefill_is_the_first_token_against_the_prompt():
    # 5 ms and 2 ms a token.
    lengths = [(n, 2) for n in (10, 100, 1000)]
    groups = [group("a/b", f"{n}-2", ttft_s_p50=0.005 + 0.002 * n) for n, _ in lengths]
    (phase,) = phases.phases(summary(lengths, groups))
    (curve,) = phase.curves
    assert (phase.name, phase.fixed_tokens) == ("prefill", 2)
    assert [point.tokens for point in curve.points] == [10, 100, 1000]
    assert curve.line.constant == pytest.approx(0.005)
    assert curve.line.slope == pytest.approx(0.002)
    assert curve.line.slope_error == pytest.approx(0, abs=1e-9)
    assert 0.9 < curve.law.exponent < 1 == pytest.approx(curve.law.last_exponent, abs=0.02)


def test_decode_is_the_time_after_the_first_token_against_the_tokens_after_it():
    # 20 ms a token: 10, 20 and 40 gaps take 0.2, 0.4 and 0.8 s, a power law with exponent 1.
    lengths = [(32, n) for n in (11, 21, 41)]
    groups = [group("a/b", f"32-{n}", tpot_s_p50=0.02) for _, n in lengths]
    phase = by_name(phases.phases(summary(lengths, groups)))["decode"]
    (curve,) = phase.curves
    assert [point.tokens for point in curve.points] == [10, 20, 40]
    assert [point.seconds.mean for point in curve.points] == pytest.approx([0.2, 0.4, 0.8])
    assert (curve.law.exponent, curve.line.constant) == (pytest.approx(1), pytest.approx(0))


def test_gaps_are_set_against_the_prompt_and_half_of_the_output():
    lengths = [(n, 16) for n in (100, 200, 400)]
    groups = [group("a/b", f"{n}-16", itl_s_p50=n * 1e-4) for n, _ in lengths]
    phase = by_name(phases.phases(summary(lengths, groups)))["itl"]
    assert [point.tokens for point in phase.curves[0].points] == [108, 208, 408]


def test_two_lengths_several_streams_or_a_range_of_outputs_are_no_experiment():
    lengths = [(10, 2), (100, 2), (1000, 2), (50, OutputRange(min=1, max=9))]
    two = [group("a/b", f"{n}-2", ttft_s_p50=0.1) for n in (10, 100)]
    many = [group("a/c", f"{n}-2", concurrency=4, ttft_s_p50=0.1) for n in (10, 100, 1000)]
    ranged = [group("a/d", f"50-{lengths[3][1]}", ttft_s_p50=0.1)]
    assert phases.phases(summary(lengths, [*two, *many, *ranged])) == ()


def test_a_variant_with_some_of_the_lengths_has_a_curve_of_these():
    lengths = [(n, 2) for n in (10, 100, 1000, 2000)]
    whole = [group("a/b", f"{n}-2", ttft_s_p50=n * 1e-3) for n, _ in lengths]
    part = [group("a/off", f"{n}-2", ttft_s_p50=n * 2e-3) for n in (10, 100, 1000)]
    few = [group("a/few", "10-2", ttft_s_p50=1.0)]
    (phase,) = phases.phases(summary(lengths, [*whole, *part, *few]))
    assert [(c.label, len(c.points)) for c in phase.curves] == [("a/b", 4), ("a/off", 3)]


def test_floors_are_those_of_the_roofline():
    # Llama-2-7B reads 6,607,077,376 weights of two bytes, and 524,288 bytes of keys and values a
    # token of context; a prompt token costs two FLOPs a weight, all but the last without the head
    # of 131,072,000 weights.
    weights, head = 6_607_077_376, 131_072_000
    lengths = [(n, 16) for n in (100, 200, 400)]
    times = {"ttft_s_p50": 1e12, "itl_s_p50": 1e12, "tpot_s_p50": 1.0}
    groups = [group("a/b", f"{n}-16", **times) for n, _ in lengths]
    found = by_name(phases.phases(summary(lengths, groups, UNIT)))
    floor = found["prefill"].curves[0].points[0].floor_s
    assert floor == 2 * weights * 100 - 2 * head * 99
    # As many FLOPs as bytes of weights: memory bounds the step, by its keys and values.
    assert found["itl"].curves[0].points[0].floor_s == 2 * weights + 524_288 * 108


@pytest.mark.parametrize(
    ("changes", "bounded"),
    [
        ({"model": model(LLAMA_2_7B, name="m+w8a8")}, set()),  # reads fewer bytes
        ({"command": ["--quantization=fp8"]}, set()),
        ({"command": ["--speculative-config={}"]}, set()),  # several tokens a reading
        ({}, {"prefill", "itl"}),
    ],
)
def test_a_floor_is_stated_only_where_the_model_itself_is_computed(changes, bounded):
    lengths = [(n, 16) for n in (100, 200, 400)]
    groups = [group("a/b", f"{n}-16", ttft_s_p50=1e12, itl_s_p50=1e12) for n, _ in lengths]
    made = summary(lengths, groups, UNIT)
    made.launches["a/b"] = launch(dtype="float16", **changes)
    found = phases.phases(made)
    assert {p.name for p in found if p.curves[0].points[0].floor_s is not None} == bounded
    assert bool(phases.placed(made, found)) is bool(bounded)


def test_a_model_of_unknown_form_has_curves_without_floors():
    lengths = [(n, 16) for n in (100, 200, 400)]
    groups = [group("a/b", f"{n}-16", ttft_s_p50=1.0, itl_s_p50=1.0) for n, _ in lengths]
    made = summary(lengths, groups, UNIT, config={"model_type": "nonesuch"})
    found = phases.phases(made)
    assert {point.floor_s for phase in found for c in phase.curves for point in c.points} == {None}
    assert phases.placed(made, found) == ()
    assert phases.roofs(made, UNIT, found) == ()


def test_decode_stands_at_one_flop_a_byte_and_prefill_far_to_the_right():
    lengths = [(n, 16) for n in (128, 256, 512)]
    times = {"ttft_s_p50": 0.5, "itl_s_p50": 0.02}
    groups = [group("a/b", f"{n}-16", **times) for n, _ in lengths]
    made = summary(lengths, groups, A100)
    found = phases.phases(made)
    placed = phases.placed(made, found)
    decode = [point for point in placed if point.name == "decode"]
    prefill = [point for point in placed if point.name == "prefill"]
    assert all(0.95 < point.intensity < 1 for point in decode)
    # 13.2 GFLOP in 20 ms
    assert decode[0].flops_per_s == pytest.approx(13.214e9 / 0.02, rel=1e-3)
    assert [point.intensity for point in prefill] == pytest.approx([126, 251, 502], rel=0.01)
    (roof,) = phases.roofs(made, A100, found)
    assert (roof.dtype, roof.peak_flops_per_s) == ("float16", 312e12)


def test_a_grid_is_the_largest_product_of_three_by_three_lengths():
    lengths = [(p, o) for p in (1, 2, 3) for o in (10, 20, 30)] + [(4, 10), (1, 40)]
    groups = [group("a/b", f"{p}-{o}", concurrency=4) for p, o in lengths]
    found = length_grid.grid(summary(lengths, groups))
    assert (found.prompts, found.outputs, found.in_flight) == ((1, 2, 3), (10, 20, 30), 4)
    assert len(found.cells) == 9


def test_two_by_many_lengths_are_no_grid():
    lengths = [(p, o) for p in (1, 2) for o in (10, 20, 30, 40)]
    groups = [group("a/b", f"{p}-{o}", concurrency=4) for p, o in lengths]
    assert length_grid.grid(summary(lengths, groups)) is None
