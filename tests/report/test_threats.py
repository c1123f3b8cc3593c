"""What a reader is warned of: only what is true of the study."""

import gzip
import json

import made_record
import msgspec
import pytest
from builders import gpu_row

from enginebench.report import threats
from enginebench.summarize.study_summary import summarize

#: quick is about twice as fast as slow; quick's two variants cannot be told apart.
FACTORS = {
    "slow/plain": (2, 2.2, 1.9),
    "quick/plain": (1, 1.05, 1.1),
    "quick/tuned": (1.02, 1.0, 1.13),
}


def test_a_threat_is_named_only_where_the_data_have_it(tmp_path):
    wild = FACTORS | {"quick/plain": (1, 1.7, 1)}
    steady, wide = (
        "\n".join(threats.threats(summarize(made_record.write(tmp_path / name, factors))))
        for name, factors in (("steady", FACTORS), ("wide", wild))
    )
    assert "differ by more than" not in steady
    said = "At 2 of 6 levels the starts of a variant differ by more than 1.5 times"
    assert said in wide and "at most 1.7 times (quick/plain, many, 1 in flight)" in wide
    assert "ratios to slow/plain are “cannot tell”" in wide
    assert "ratios to slow/plain" not in steady
    assert "calibrated" in steady  # no calibration is in the record


def edit(file, **changes):
    """Some top-level keys of a JSON file, changed."""
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))


def threats_of(directory):
    return "\n".join(threats.threats(summarize(directory)))


@pytest.fixture
def directory(tmp_path):
    return made_record.write(tmp_path / "made", FACTORS)


def write_gpus(directory, cell, rows):
    with gzip.open(directory / "raw" / cell / "gpus.jsonl.gz", "wt") as file:
        file.writelines(msgspec.json.encode(row).decode() + "\n" for row in rows)


def test_a_throttled_gpu_is_named_with_its_worst_share_of_each_reason(directory):
    edit(directory / "study.json", device="cuda")
    assert "throttled" not in threats_of(directory)
    cap, hot = ["sw_power_cap"], ["hw_thermal_slowdown"]
    # 2 of 4 samples with the cap in one cell, 1 of 4 in a later one; 1 of 4 with the heat.
    one = [gpu_row(0, reasons=cap), *(gpu_row(t) for t in (1, 2, 3))]
    two = [gpu_row(0, reasons=cap), gpu_row(1, reasons=[*cap, *hot]), gpu_row(2), gpu_row(3)]
    write_gpus(directory, "trial1_slow_plain/many-c1", two)
    write_gpus(directory, "trial1_slow_plain/many-c4", one)
    assert (
        "A GPU was throttled in 2 of 18 cells (hw_thermal_slowdown in up to 25 % of samples, "
        "sw_power_cap in up to 50 % of samples)"
    ) in threats_of(directory)


def test_a_gpu_that_stopped_answering_is_named_with_its_error(directory):
    edit(directory / "study.json", device="cuda")
    rows = [gpu_row(0), gpu_row(1, used=None, power=None, reasons=None, error="GPU is lost")]
    write_gpus(directory, "trial2_quick_plain/many-c4", rows)
    said = "A GPU stopped answering in 1 of 18 cells (GPU 0: GPU is lost)"
    assert said in threats_of(directory)


@pytest.mark.parametrize(
    ("device", "mig", "is_said"),
    [("cuda", True, True), ("cuda", False, False), ("cpu", True, False)],
)
def test_a_partitioned_gpu_is_a_threat_where_engines_ran_on_gpus(directory, device, mig, is_said):
    machine = json.loads((directory / "study.json").read_text())["machine"]
    gpus = [{"name": "A100", "mig": False}, {"name": "A100", "mig": mig}]
    edit(directory / "study.json", device=device, machine=machine | {"gpus": gpus})
    assert ("A GPU is partitioned (MIG)" in threats_of(directory)) == is_said


def test_a_failure_of_nvml_is_a_threat(directory):
    assert "NVML" not in threats_of(directory)
    machine = json.loads((directory / "study.json").read_text())["machine"]
    edit(directory / "study.json", machine=machine | {"nvml_error": "Driver Not Loaded"})
    assert "NVML could not be used in full (Driver Not Loaded)" in threats_of(directory)


def test_settings_that_engines_inherited_are_listed_once_and_empty_ones_are_not(directory):
    assert "inherited" not in threats_of(directory)
    for start in ("trial1_slow_plain", "trial2_slow_plain"):
        edit(
            directory / "raw" / start / "launch.json",
            inherited_env={"OMP_NUM_THREADS": "4", "HF_HOME": ""},
        )
    edit(directory / "raw" / "trial1_quick_plain" / "launch.json", inherited_env={"A": "1"})
    (said,) = (line for line in threats_of(directory).splitlines() if "inherited" in line)
    assert said.endswith("the caller's environment: A=1, OMP_NUM_THREADS=4.")


def test_code_with_changes_that_are_in_no_commit_is_a_threat(directory):
    assert "in no commit" not in threats_of(directory)
    edit(directory / "study.json", git={"commit": "c", "dirty": True})
    assert "in no commit" in threats_of(directory)


def test_a_study_that_was_not_finished_is_a_threat(directory):
    assert "did not reach its end" not in threats_of(directory)
    (directory / "finished.json").unlink()
    assert "did not reach its end" in threats_of(directory)
