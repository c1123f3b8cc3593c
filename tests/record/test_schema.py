"""The published study is what the schema says, and the schema is what is published."""

import json
from dataclasses import asdict, fields
from pathlib import Path
from typing import get_type_hints

import msgspec
import pytest
from builders import request
from project import ROOT

from enginebench.engines import start_up
from enginebench.hardware import machine, nvml, prices, roofline
from enginebench.launch import server
from enginebench.load import calibrate, client_stats
from enginebench.load.exchange import Kind
from enginebench.load.request_record import RequestRecord
from enginebench.plan.study_file import Study as StudyModel
from enginebench.record import (
    encoding,
    json_schema,
    publishing,
    reading,
    schema,
    schema_samples,
    schema_study,
)
from enginebench.run import noise_probe
from enginebench.run.recorded import as_recorded
from enginebench.watch import processes, pulse, scrape

PUBLISHED = sorted((ROOT / "results" / "published").iterdir())
#: As files are called before they are packed for publishing.
AS_RECORDED = {f"{name}.gz": name for name in publishing.PLAIN} | {
    "scrapes.jsonl.xz": publishing.PAGES
}
FILES = json_schema.RAW_FILES | json_schema.DERIVED_FILES


def documents(study):
    """Each JSON document of a study: its file, its type, its bytes."""
    for path in sorted(study.rglob("*.json*")):
        recorded = Path(AS_RECORDED.get(path.name, path.name))
        with reading.unpacked(path) as file:
            for document in file if ".jsonl" in path.name else [file.read()]:
                yield recorded, FILES[recorded.name], document


def assert_within(plain, typed, where):
    """All that a file says is there after it went through its type."""
    if isinstance(plain, dict):
        for name, value in plain.items():
            assert name in typed, f"{where}: the schema does not know {name}"
            assert_within(value, typed[name], f"{where}.{name}")
    elif isinstance(plain, list):
        assert len(plain) == len(typed), where
        for index, (one, other) in enumerate(zip(plain, typed, strict=True)):
            assert_within(one, other, f"{where}[{index}]")
    else:
        assert plain == typed, where


@pytest.mark.parametrize("study", PUBLISHED, ids=lambda path: path.name)
def test_a_published_study_goes_through_its_types_and_nothing_is_lost(study):
    seen = set()
    for path, kind, document in documents(study):
        typed = msgspec.to_builtins(msgspec.json.decode(document, type=kind), str_keys=True)
        assert_within(json.loads(document), typed, path.name)
        seen.add(path.name)
    assert {"study.json", "launch.json", "cell.json", "requests.jsonl", "metrics_data.json"} < seen


def test_the_published_json_schema_is_that_of_the_types():
    """If it is not: make schema."""
    directory = ROOT / "docs" / "schema"
    published = {path.name: path.read_text() for path in directory.glob("*.schema.json")}
    assert published == json_schema.documents()


def test_the_json_schema_has_units_and_meaning():
    text = json_schema.documents()["requests.jsonl.schema.json"]
    fields_of = json.loads(text)["$defs"]["Request"]["properties"]
    assert "X-Request-Id" in fields_of["request_id"]["description"]
    assert fields_of["event_tokens"]["items"]["anyOf"][0]["maximum"] == 2**31 - 1


def test_a_written_request_has_the_fields_of_the_schema():
    assert {field.name for field in fields(RequestRecord)} == set(schema.Request.__struct_fields__)
    described = json_schema.documents()["requests.jsonl.schema.json"]
    assert all(kind in described for kind in Kind.__args__)


@pytest.mark.parametrize(
    ("written", "kind"),
    [
        (scrape.Scrape, schema_samples.Scrape),
        (processes.ProcessSample, schema_samples.ProcessSample),
        (nvml.GpuSample, schema_samples.GpuSample),
        (server.ContainerSample, schema_samples.ContainerSample),
        (nvml.GpuMeter, schema.GpuMeter),
        (machine.Clocks, schema.Clocks),
        (machine.Meters, schema.Meters),
        (client_stats.ClientFigures, schema.ClientStats),
        (pulse.PulseCost, schema.PulseCost),
        (server.ContainerFacts, schema.Container),
        (server.ContainerEnd, schema.Ended),
        (start_up.StartUp, schema.StartUp),
        (nvml.GpuFacts, schema_study.Gpu),
        (machine.Machine, schema_study.Machine),
        (machine.GitState, schema_study.Git),
        (prices.HourlyPrice, schema_study.Price),
        (roofline.Ceiling, schema_study.Ceiling),
        (calibrate.Calibration, schema_study.Calibration),
        (noise_probe.Noise, schema_study.Noise),
    ],
    ids=lambda kind: kind.__name__,
)
def test_what_a_stage_writes_has_the_fields_of_the_schema(written, kind):
    assert {field.name for field in fields(written)} == set(kind.__struct_fields__)


def test_how_an_engine_was_started_and_ended_are_fields_of_launch_json():
    names = {field.name for kind in (server.StartFacts, server.StopFacts) for field in fields(kind)}
    assert names < set(schema.Launch.__struct_fields__)


def test_a_stages_facts_become_the_records_types_with_what_they_hold():
    gpu = nvml.GpuFacts("a", 8, "1", mig=False)
    facts = machine.Machine(
        system="s", cpu="c", cpu_bfloat16=["x"], cpus=2, memory_bytes=1, gpus=[gpu],
        nvml_error=None, python="3", packages={"numpy": None},
    )  # fmt: skip
    found = as_recorded(schema_study.Machine, facts)
    assert msgspec.to_builtins(found) == asdict(facts)


def test_a_study_file_has_the_fields_of_the_schema():
    assert set(StudyModel.model_fields) == set(schema_study.StudyFile.__struct_fields__)


@pytest.mark.parametrize("tokens", [-1, 2**31, 1.5, "3", True])
def test_a_token_count_is_a_whole_number_of_31_bits(tmp_path, tokens):
    row = msgspec.to_builtins(request()) | {"output_tokens": tokens}
    file = tmp_path / "requests.jsonl"
    file.write_text(json.dumps(row) + "\n")
    with pytest.raises(reading.RecordError, match=r"requests\.jsonl, line 1: .*output_tokens"):
        list(reading.read_rows(file, schema.Request))


def test_a_field_of_a_newer_version_is_ignored_and_one_of_schema_2_may_be_missing(tmp_path):
    row = msgspec.to_builtins(request()) | {"of_a_newer_version": 1}
    del row["error_kind"]
    file = tmp_path / "requests.jsonl"
    file.write_text(json.dumps(row) + "\n")
    assert list(reading.read_rows(file, schema.Request)) == [request()]


def test_a_record_of_schema_1_reads(tmp_path):
    """As it was before open loops: no rate, no runner, no calibration, no parameters."""
    plain = json.loads((PUBLISHED[0] / "study.json").read_text())
    plain["schema"] = 1
    for name in ("runner", "calibration", "gpu_reached"):
        plain.pop(name, None)
    plain["model"].pop("parameters")
    for workload in plain["study"]["workloads"]:
        workload.pop("rate")
    for launch in plain["plan"]:
        for cell in launch["cells"]:
            cell.pop("rate")
    (tmp_path / "study.json").write_text(json.dumps(plain))
    study = reading.read_study(tmp_path)
    assert (study.runner, study.calibration, study.model.parameters) == ("process", [], None)
    assert study.plan[0].cells[0].rate is None


def test_no_name_is_free_text_in_one_file_and_an_identifier_in_another():
    free = {
        name
        for struct in encoding.structs()
        for name, hint in get_type_hints(struct, include_extras=True).items()
        if not encoding._is_identifier(hint) and hint in (str, str | None)
    }
    assert not free & encoding.identifiers()
