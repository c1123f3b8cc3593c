"""NVML through the real ctypes path: a compiled stub stands where the driver's library would."""

import json
import os
import shutil
import subprocess
import sys
from typing import Any

import psutil
import pytest
import yaml
from builders import GIB, rows_of
from project import make_project, metrics, result, run_study, study

from enginebench.record import reading

pytestmark = pytest.mark.skipif(not shutil.which("cc"), reason="no C compiler (cc) for the stub")

ASK = """
import json
from dataclasses import asdict
from enginebench.hardware import machine, nvml
samples = [[asdict(row) for row in nvml.sample(nvml.gpus())] for _ in range(4)]
meters = asdict(machine.meters(nvml.gpus()))["gpus"]
told = {"error": nvml.error(), "device": machine.device()}
told["gpus"] = [asdict(gpu) for gpu in machine.gpus()]
print(json.dumps(told | {"samples": samples, "meters": meters}))
"""


def environment(library, **script):
    return os.environ | {"LD_LIBRARY_PATH": str(library)} | {k: str(v) for k, v in script.items()}


def ask(library, **script):
    """What a fresh process sees of the stub: four samples, then the meters and facts."""
    call = [sys.executable, "-P", "-c", ASK]
    env = environment(library, **script)
    return json.loads(subprocess.run(call, env=env, capture_output=True, check=True).stdout)


def test_every_meter_of_a_gpu_is_read_in_si_units(library):
    told = ask(library)
    first = told["samples"][0][0]
    assert first.pop("t_s") > 0
    assert first == {
        "index": 0,
        "memory_used_bytes": 10 * GIB,
        "memory_reserved_bytes": GIB // 2,
        "utilisation": 0.75,
        "memory_utilisation": 0.25,
        "power_w": 250.5,
        "energy_j": 1500.25,
        "sm_clock_hz": 1410e6,
        "memory_clock_hz": 1593e6,
        "temperature_c": 61,
        "throttle_reasons": ["gpu_idle"],
        "processes": {"4242": 9 * GIB, "4343": None},
        "error": None,
    }
    reasons = [sample[0]["throttle_reasons"] for sample in told["samples"]]
    assert reasons[1] == ["sw_power_cap", "hw_thermal_slowdown"]
    assert reasons[3] == ["sw_power_cap", "0x1000"]  # a reason that has no name yet
    used = [sample[0]["memory_used_bytes"] for sample in told["samples"]]
    assert used == [10 * GIB, 30 * GIB, 20 * GIB, 20 * GIB]
    assert told["meters"] == [{"index": 0, "energy_j": 1501.0, "power_limit_w": 300.0}]
    assert told["device"] == "cuda"
    facts = {"name": "Scripted GPU 0", "memory_bytes": 40 * GIB, "driver": "000.00.scripted"}
    assert told["gpus"] == [facts | {"mig": False, "capability": 8.9}]


def test_what_an_old_gpu_cannot_say_is_none_and_no_failure(library):
    told = ask(library, STUB_GPUS=2)
    old = told["samples"][0][1]
    silent = ("memory_reserved_bytes", "energy_j", "sm_clock_hz", "memory_clock_hz")
    assert all(old[name] is None for name in (*silent, "throttle_reasons", "processes", "error"))
    assert old["memory_used_bytes"] == 3 * GIB  # by the older form of the call
    assert (old["power_w"], old["utilisation"]) == (60.0, 0.5)
    assert told["meters"][1] == {"index": 1, "energy_j": None, "power_limit_w": 300.0}
    assert told["samples"][0][0]["t_s"] == old["t_s"]


def test_of_a_partitioned_gpu_what_counts_all_its_users_is_left_out(library):
    told = ask(library, STUB_GPUS=3)
    mig = told["samples"][0][2]
    assert [gpu["mig"] for gpu in told["gpus"]] == [False, False, True]
    whole = ("memory_used_bytes", "utilisation", "memory_utilisation", "power_w", "energy_j")
    assert all(mig[name] is None for name in whole)
    assert told["meters"][2]["energy_j"] is None
    assert (mig["sm_clock_hz"], mig["throttle_reasons"]) == (1410e6, [])
    assert mig["processes"] == {"4444": 5 * GIB}  # in two instances: 2 and 3 GiB
    assert mig["error"] is None


def test_a_gpu_that_is_lost_says_nothing_more_and_why(library):
    told = ask(library, STUB_GPUS=2, STUB_LOST_AFTER=2)
    before, after = told["samples"][1], told["samples"][2]
    assert before[0]["memory_used_bytes"] == 30 * GIB
    values = {name: v for name, v in after[0].items() if name not in ("t_s", "index", "error")}
    assert set(values.values()) == {None}
    assert after[0]["error"] == "GPU is lost"
    assert after[1]["power_w"] == 60.0  # the other one goes on
    assert told["meters"][0] == {"index": 0, "energy_j": None, "power_limit_w": None}


@pytest.mark.parametrize(
    ("script", "error"),
    [
        ({"STUB_INIT": 18}, "RM has detected an NVML/RM version mismatch."),
        ({"STUB_INIT": 9}, "Driver Not Loaded"),
        ({"STUB_GPUS": 0}, None),
    ],
)
def test_without_a_gpu_there_is_nothing_to_read_and_a_failure_is_told(library, script, error):
    told = ask(library, **script)
    assert (told["gpus"], told["meters"], told["samples"][0]) == ([], [], [])
    assert told["device"] == "cpu"
    assert error is None or error in told["error"]
    assert (told["error"] is None) == (error is None)


def test_a_machine_without_the_library_is_an_ordinary_case(tmp_path):
    told = ask(tmp_path)
    assert (told["gpus"], told["error"], told["device"]) == ([], None, "cpu")


def run(project, cache, library, **script):
    """A whole study of a double on the stub's GPUs; the double's environment is the same."""
    file = project / "alpha" / "launch.yaml"
    launch = yaml.safe_load(file.read_text())
    recipes = launch["x-native"]["environment"]
    recipes["cuda"] = recipes["cpu"]
    file.write_text(yaml.safe_dump(launch))
    data = study({"engine": "alpha"}, device="cuda", sample_interval_s=0.01)
    env = environment(library, STUB_TOTAL_GIB=1000, **script)  # what is in use is no engine's
    done = run_study(project, cache, data, env=env)
    assert done.returncode == 0, done.stdout + done.stderr
    where = result(project)
    return where, metrics(project)["cells"], (where / "derived" / "report.md").read_text()


@pytest.mark.slow
def test_a_study_records_its_gpus_and_reports_what_slowed_them(tmp_path, cache, library):
    directory, cells, report = run(make_project(tmp_path, "alpha"), cache, library)
    where = directory / "raw" / "trial1_alpha_default"
    for cell in cells:
        figures = cell["figures"]
        rows = rows_of(where / cell_id(cell) / "gpus.jsonl.gz")
        assert figures["gpu_memory_peak_bytes"] == max(r["memory_used_bytes"] for r in rows)
        assert (figures["power_w_mean"], figures["gpu_utilisation_mean"]) == (250.5, 0.75)
        assert figures["gpu_errors"] == {}
        assert figures["energy_j"] > 0
        about = reading.read_document(where / cell_id(cell) / "cell.json", Any)["watching"]
        # Those at the two ends are not beats of the thread.
        assert about["sampling"]["beats"] == len(rows) - 2
        assert about["sampling"]["interval_s"] == 0.01
        assert about["sampling"]["cpu_s"] > 0
        assert about["scraping"]["interval_s"] == 0.05
    assert "GPU memory GiB" in report
    assert "A GPU was throttled in 3 of 3 cells (0x1000 in up to 100 % of samples" in report


@pytest.mark.slow
def test_a_study_goes_on_when_a_gpu_is_lost_and_says_so(tmp_path, cache, library):
    script = {"STUB_LOST_AFTER": 10}
    _, cells, report = run(make_project(tmp_path, "alpha"), cache, library, **script)
    assert [cell["is_valid"] for cell in cells] == [True] * 3
    assert cells[0]["figures"]["gpu_memory_peak_bytes"] == 20 * GIB
    assert cells[2]["figures"]["gpu_memory_peak_bytes"] is None
    assert cells[2]["figures"]["energy_j"] is None
    assert "A GPU stopped answering in 3 of 3 cells (GPU 0: GPU is lost)" in report


def test_a_gpu_that_somebody_uses_is_not_free_and_its_user_is_named(library):
    code = (
        "import json; from enginebench.launch import device_free; "
        "print(json.dumps(device_free.held('cuda')))"
    )
    call = [sys.executable, "-P", "-c", code]
    for script, holders in (
        (
            {"STUB_PID": os.getpid()},
            [f"{psutil.Process().name()} (process {os.getpid()}) on GPU 0"],
        ),
        ({"STUB_TOTAL_GIB": 1000}, []),  # a small share: a driver's, or a monitor's
    ):
        done = subprocess.run(call, env=environment(library, **script), capture_output=True)
        told = json.loads(done.stdout)
        assert [text.partition(" (9.0 GiB)")[0] for text in told[:1]] == holders


@pytest.mark.slow
def test_a_study_on_the_processor_leaves_the_gpus_alone(tmp_path, cache, library):
    project = make_project(tmp_path, "alpha")
    done = run_study(project, cache, study({"engine": "alpha"}), env=environment(library))
    assert done.returncode == 0, done.stderr
    assert list(result(project).rglob("gpus.jsonl.gz")) == []
    assert "GPU memory GiB" not in (result(project) / "derived" / "report.md").read_text()


def cell_id(cell):
    return f"{cell['workload']}-c{cell['concurrency']}"
