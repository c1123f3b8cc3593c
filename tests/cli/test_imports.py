"""What the command line may import: little for --help, and no Docker to read a record."""

import subprocess
import sys

import made_record
import pytest

HEAVY = ("docker", "matplotlib", "numpy", "pandas", "requests", "scipy", "tokenizers", "wandb")

#: Runs the program where these packages are not installed and the system has no epoll.
WITHOUT = """
import select, sys

class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("docker", "psutil", "pynvml"):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Absent())
for name in [name for name in dir(select) if name.startswith(("epoll", "EPOLL"))]:
    delattr(select, name)
from enginebench.cli.app import main
main()
"""


@pytest.mark.parametrize("argument", ["--help", "version"])
def test_help_and_version_import_nothing_heavy(argument):
    code = f"""
import sys
from enginebench.cli.app import main
try:
    main()
finally:
    print([name for name in {HEAVY} if name in sys.modules])
"""
    done = subprocess.run([sys.executable, "-c", code, argument], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "[]"


def without_docker(*arguments, cwd, **env):
    call = [sys.executable, "-c", WITHOUT, *map(str, arguments)]
    return subprocess.run(call, cwd=cwd, capture_output=True, text=True, env=env or None)


def test_the_packages_really_are_absent_there(tmp_path):
    done = without_docker("doctor", cwd=tmp_path)
    assert "No module named 'psutil'" in done.stderr


def test_a_report_needs_no_docker_no_gpu_library_and_no_epoll(tmp_path):
    record = made_record.write(tmp_path / "made", {"a/x": (1.0, 1.1)})
    done = without_docker("report", record, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert (record / "derived" / "report.html").exists()


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["kv", "llama-3-8b", "--gpu", "l4"], "131,072 bytes a token"),
        (["check", "table.csv"], "0 impossible"),
        (["--help"], "Commands:"),
    ],
)
def test_the_calculators_need_none_of_them_either(tmp_path, arguments, expected):
    row = "llama-3-8b,l4,1,128,128,10"
    (tmp_path / "table.csv").write_text(f"model,gpu,batch,in,out,throughput\n{row}\n")
    done = without_docker(*arguments, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert expected in done.stdout


@pytest.mark.parametrize("mode", ["disabled", pytest.param("offline", marks=pytest.mark.slow)])
def test_wandb_needs_none_of_them_either(tmp_path, mode, monkeypatch):
    if mode == "offline":
        pytest.importorskip("wandb")
    for name in ("WANDB_API_KEY", "WANDB_DIR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("WANDB_MODE", mode)
    record = made_record.write(tmp_path / "made", {"a/x": (1.0, 1.1)})
    done = without_docker("wandb", record, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert len(list(record.glob("wandb/offline-run-*"))) == (2 if mode == "offline" else 0)
