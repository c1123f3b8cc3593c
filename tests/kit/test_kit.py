"""An air-gapped kit: its parts, and what its script does with a good and with a damaged one.

Packing and running a whole kit of real engines is tests/kit/test_kit_rehearsal.py.
"""

import hashlib
import io
import json
import os
import signal
import subprocess
import sys
import tarfile
import time
from pathlib import Path

import made_kit
import pytest
import yaml
from project import ROOT, make_project, study, write_study

from enginebench.base.errors import UserError
from enginebench.cli.kit import kit as kit_verb
from enginebench.engines import directory
from enginebench.kit import pack, packages
from enginebench.plan import study_file


@pytest.fixture
def made(tmp_path):
    return made_kit.make(tmp_path)


def run(made, *options):
    call = [sys.executable, "run.py", *options]
    return subprocess.run(call, cwd=made, capture_output=True, text=True)


def calls(made):
    return (made / "work" / "kit" / "calls").read_text().splitlines()


def test_a_kit_is_joined_run_and_archived_with_one_command(made):
    done = run(made)
    assert done.returncode == 0, done.stderr
    assert (made / "work" / "kit" / "large").read_bytes() == bytes(range(256)) * 100
    assert calls(made) == [
        "-m enginebench study studies/small.yaml --runner process --resume --profile cpu"
    ]
    with tarfile.open(made / "results.tar.gz") as file:
        assert file.extractfile("results/one/finished.json").read() == b"1\n"


def test_run_again_it_continues_and_replaces_the_archive(made):
    assert run(made).returncode == 0
    (made / "work" / "kit" / "code").write_text("3")
    done = run(made, "--limit", "5")
    assert done.returncode == 3
    assert "unpacked already" in done.stdout
    assert "run this again to continue" in done.stdout
    limit = calls(made)[1].split("--limit ")[1]
    assert 4.5 < float(limit) <= 5
    with tarfile.open(made / "results.tar.gz") as file:
        assert file.extractfile("results/one/finished.json").read() == b"2\n"


def flip(part):
    content = bytearray(part.read_bytes())
    content[100] ^= 1
    part.write_bytes(content)


@pytest.mark.parametrize(
    ("damage", "expected"),
    [
        (lambda made: flip(made / "part-002"), "part-002: expected sha256"),
        (lambda made: flip(sorted(made.glob("part-*"))[-1]), "expected sha256"),
        (lambda made: flip(made / "part-000"), "part-000: expected sha256"),
        (lambda made: (made / "part-001").unlink(), "1 parts are missing (part-001)"),
        (lambda made: (made / "part-000").write_bytes(b""), "part-000: expected sha256"),
        (lambda made: (made / "kit.json").unlink(), "expected the kit's manifest"),
        (lambda made: (made / "work" / "kit").mkdir(parents=True), "found something else"),
    ],
)
def test_a_damaged_kit_is_one_line_and_nothing_is_unpacked(made, damage, expected):
    damage(made)
    done = run(made)
    assert done.returncode == 2
    assert expected in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    assert not (made / "work" / "kit" / "large").exists()


ROW = {"name": "part-000", "bytes": 4096, "sha256": "0" * 64}


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ([], "no JSON object"),
        (None, "no JSON object"),
        ({"parts": None}, "expected a list of the kit's parts, found none"),
        ({"parts": []}, "expected a list of the kit's parts, found none"),
        ({"parts": "part-000"}, "expected a list of the kit's parts, found none"),
        ({"parts": [5]}, "expected name, bytes and sha256 of part 0, found '5'"),
        ({"parts": [{"name": "part-000", "bytes": 4096}]}, "sha256 of part 0, found"),
        ({"parts": [ROW, ROW | {"bytes": "4096"}]}, "sha256 of part 1, found"),
        ({"parts": [ROW | {"bytes": -1}]}, "sha256 of part 0, found"),
        ({"parts": [ROW | {"bytes": 10**400}]}, "sha256 of part 0, found"),
        ({"parts": [ROW | {"bytes": True}]}, "sha256 of part 0, found"),
        ({"python": "\x1b[31m\n3"}, "expected Python ?[31m?3, for which"),
        ({"parts": [ROW | {"sha256": "x"}]}, "sha256 of part 0, found"),
        ({"parts": [ROW | {"name": "../../etc/passwd"}]}, "sha256 of part 0, found"),
        ({"parts": [ROW, ROW]}, "expected each part once"),
        ({"file": "../other.yaml"}, "expected file as it was packed, found '../other.yaml'"),
        ({"file": 5}, "expected file as it was packed, found '5'"),
        ({"study": None}, "expected study as it was packed"),
        ({"device": "--help"}, "expected device as it was packed"),
    ],
)
def test_a_malformed_manifest_is_one_line(made, change, expected):
    file = made / "kit.json"
    manifest = json.loads(file.read_text())
    file.write_text(json.dumps(manifest | change if isinstance(change, dict) else change))
    done = run(made)
    assert (done.returncode, len(done.stderr.strip().splitlines())) == (2, 1), done.stderr
    assert expected in done.stderr
    assert not (made / "work").exists()


@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe", b"[" * 100_000])
def test_a_manifest_that_is_no_json_is_one_line(made, content):
    (made / "kit.json").write_bytes(content)
    done = run(made)
    assert (done.returncode, len(done.stderr.strip().splitlines())) == (2, 1), done.stderr
    assert "expected the kit's manifest" in done.stderr


def test_a_pipe_in_place_of_a_manifest_or_a_part_is_one_line(made):
    (made / "part-001").unlink()
    os.mkfifo(made / "part-001")
    done = run(made)
    assert done.returncode == 2 and "1 parts are missing (part-001)" in done.stderr
    (made / "kit.json").unlink()
    os.mkfifo(made / "kit.json")
    done = run(made)
    assert done.returncode == 2 and "expected the kit's manifest" in done.stderr


@pytest.mark.parametrize("limit", ["nan", "inf", "-1"])
def test_a_limit_that_is_no_time_is_one_line(made, limit):
    done = run(made, f"--limit={limit}")
    assert done.returncode == 2 and "--limit: expected minutes" in done.stderr


@pytest.mark.parametrize(("name", "value"), [("python", "2.7"), ("machine", "vax"), ("format", 9)])
def test_a_kit_for_another_machine_is_refused(made, name, value):
    manifest = json.loads((made / "kit.json").read_text())
    (made / "kit.json").write_text(json.dumps(manifest | {name: value}))
    done = run(made)
    assert done.returncode == 2
    assert f"expected {name} " in done.stderr.lower()
    assert str(value) in done.stderr


def test_an_unpacking_that_was_cut_off_is_done_again(made):
    (made / "work" / ".part").mkdir(parents=True)
    (made / "work" / ".part" / "large").write_text("half")
    assert run(made).returncode == 0
    assert (made / "work" / "kit" / "large").stat().st_size == 25600


def test_no_part_is_larger_than_asked_and_together_they_are_the_archive(made, tmp_path):
    parts = json.loads((made / "kit.json").read_text())["parts"]
    assert {part["bytes"] for part in parts[:-1]} == {4096}
    assert 0 < parts[-1]["bytes"] <= 4096
    joined = b"".join((made / part["name"]).read_bytes() for part in parts)
    (tmp_path / "whole.tar").write_bytes(joined)
    with tarfile.open(tmp_path / "whole.tar") as file:
        owners = {(member.uid, member.mtime, member.uname) for member in file.getmembers()}
    assert owners == {(0, 0, "")}


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"name": "gpu", "device": "cuda"}, "tgi/launch.yaml: no x-native key"),
        ({"name": "gpu"}, r"expected cpu or cuda, as .*gpu.yaml has it \(device: auto\), found n"),
        ({"name": "smoke", "device": "cuda"}, r"\(device: cpu\), found cuda"),
        ({"name": "smoke", "packages": ["vllm"]}, "expected ENGINE=FILE"),
        ({"name": "smoke", "packages": ["vllm=none.txt"]}, r"found none.txt \(No such file"),
        ({"name": "smoke", "out": Path("full")}, "full: expected an empty directory for the kit"),
        ({"name": "smoke", "out": Path("full/file")}, "full/file: cannot pack the kit there"),
        ({"name": "smoke", "python": "3.12.4"}, r"a version such as 3.12, found '3.12.4'"),
        ({"name": "nonesuch"}, "nonesuch"),
    ],
)
def test_what_cannot_be_packed_is_one_line_and_leaves_nothing(
    tmp_path, monkeypatch, options, expected
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").write_text("mine")
    with pytest.raises(UserError, match=expected):
        kit_verb(**options, root=ROOT)
    assert [path.name for path in tmp_path.iterdir()] == ["full"]
    assert (tmp_path / "full" / "file").read_text() == "mine"


TARGET = packages.Target("cpu", "3.99")


def package(name, *requires, extras=()):
    """A row of pip's report."""
    return {"metadata": {"name": name, "requires_dist": list(requires)}, "requested_extras": extras}


def test_what_pip_leaves_out_for_another_python_is_found():
    installed = [
        package("one", 'six; python_version > "3.50"', 'old; python_version < "3.50"', "Two_B>=1"),
        package("two.b", 'fast>=2; extra == "speed"', 'slow; extra == "other"', extras=["speed"]),
    ]
    assert packages.unmet(installed, TARGET) == ["fast>=2", "six"]
    assert packages.unmet([*installed, package("six"), package("Fast")], TARGET) == []


def download_stand_in(arguments, directory):
    """Puts a wheel for each line of the list where pip would."""
    if arguments[0] == "download":
        wheels = Path(arguments[arguments.index("-d") + 1])
        for line in Path(arguments[arguments.index("-r") + 1]).read_text().splitlines():
            name, _, version = line.partition("==")
            (wheels / f"{name}-{version}-py3-none-any.whl").write_text(name)


def pinned(name, version):
    digest = hashlib.sha256(name.encode()).hexdigest()
    return f"{name}=={version} --hash=sha256:{digest}\n"


@pytest.fixture
def packed(tmp_path, monkeypatch):
    """Packs a study of one double; pip is not asked: each list of packages is a stand-in."""
    project = make_project(tmp_path / "project", "alpha", "boxed")
    boxed = project / "boxed" / "launch.yaml"  # runs in containers only
    boxed.write_text(boxed.read_text().partition("x-native")[0])
    for name in pack.SOURCES:
        (project / name).mkdir() if name == "src" else (project / name).touch()
    monkeypatch.setattr(packages, "resolve", lambda *_: ["one==1"])
    monkeypatch.setattr(packages, "pip", download_stand_in)

    def pack_study(lists=None, names=("alpha",), **changes):
        file = write_study(project, study(*({"engine": name} for name in names), **changes))
        found = study_file.load(file)
        engines = {name: directory.load_engine(project, name) for name in names}
        out = tmp_path / "out"
        pack.pack(
            found,
            file,
            engines,
            root=project,
            out=out,
            target=packages.Target("cpu", packages.OUR_PYTHON),
            part_bytes=1 << 20,
            package_lists=lists or {},
            log=lambda text: None,
        )
        tree = tmp_path / "tree"
        joined = b"".join(path.read_bytes() for path in sorted(out.glob("part-*")))
        with tarfile.open(fileobj=io.BytesIO(joined)) as file:
            file.extractall(tree, filter="data")
        return tree

    return pack_study


def environment_of(tree):
    return yaml.safe_load((tree / "alpha" / "launch.yaml").read_text())["x-native"]["environment"]


def test_a_packed_engine_takes_its_packages_from_the_wheels_alone(packed):
    tree = packed()
    (recipe,) = environment_of(tree)["cpu"]
    assert {"--no-index", "--no-deps", "../wheels/alpha.txt"} < set(recipe)
    assert (tree / "wheels" / "alpha.txt").read_text() == pinned("one", 1)
    assert not environment_of(tree)["uses_system_packages"]
    assert (tree / "prompts.txt").exists()
    assert directory.load_engine(tree, "alpha").name == "alpha"


def test_an_engine_of_containers_goes_along_bare_where_the_study_leaves_out_what_cannot_run(packed):
    with pytest.raises(UserError, match="boxed"):
        packed(names=("alpha", "boxed"))
    tree = packed(names=("alpha", "boxed"), skip_unmet=True)
    assert directory.load_engine(tree, "boxed").native is None
    assert not (tree / "wheels" / "boxed.txt").exists()


def test_a_list_of_ones_own_is_packed_as_it_is(packed, tmp_path):
    (tmp_path / "mine.txt").write_text("# what the machine lacks\ntwo==2\n")
    tree = packed(lists={"alpha": tmp_path / "mine.txt"})
    assert (tree / "wheels" / "alpha.txt").read_text() == pinned("two", 2)
    assert environment_of(tree)["uses_system_packages"]


def test_a_package_without_a_wheel_and_a_line_that_is_none_are_named(packed, tmp_path):
    for line, expected in (
        ("-r other.txt", "expected lines such as name"),
        ("a b", "name==version"),
    ):
        (tmp_path / "mine.txt").write_text(f"{line}\n")
        with pytest.raises(UserError, match=expected):
            packed(lists={"alpha": tmp_path / "mine.txt"})
    with pytest.raises(UserError, match="expected a wheel of gone==1, found none"):
        packages.write_pinned(tmp_path / "list.txt", ["gone==1"], tmp_path)


def test_a_study_with_a_model_of_ones_own_keeps_its_settings_as_written(packed, tmp_path):
    model = tmp_path / "model"
    model.mkdir()
    (model / "config.json").write_text("{}")
    tree = packed(model=str(model), settings={"BEHAVIOUR": "010"})
    (file,) = (tree / "studies").iterdir()
    assert study_file.load(file).settings == {"BEHAVIOUR": "010"}  # as it was written


def test_a_model_of_links_is_packed_as_files_and_named_by_the_study(packed, tmp_path):
    model = tmp_path / "model: odd"
    model.mkdir()
    (tmp_path / "blob").write_text("{}")
    (model / "config.json").symlink_to(tmp_path / "blob")
    tree = packed(model=str(model))
    (file,) = (tree / "studies").iterdir()
    found = tree / study_file.load(file).model
    assert (found / "config.json").read_text() == "{}"
    assert not (found / "config.json").is_symlink()


def test_prompts_from_elsewhere_are_refused_and_nothing_is_left(packed, tmp_path):
    with pytest.raises(UserError, match="by their path below"):
        packed(prompts={"path": str(tmp_path / "other.txt")})
    assert not (tmp_path / "out").exists()
    assert not list(tmp_path.glob(f"{pack.WORK}*"))


def test_an_interrupt_ends_the_study_once_and_keeps_what_is_there(made):
    python = made / "work" / "kit" / ".venv" / "bin" / "python"
    assert run(made).returncode == 0  # unpacks
    python.write_text(HANGS)
    call = [sys.executable, "run.py"]
    with subprocess.Popen(call, cwd=made, stdout=subprocess.PIPE, text=True) as process:
        wait_for(made / "work" / "kit" / "results" / "begun")
        other = run(made)
        assert other.returncode == 2
        assert "found this kit running" in other.stderr
        process.send_signal(signal.SIGTERM)
        said, _ = process.communicate(timeout=20)
    assert process.returncode == 130
    assert "run this again to continue" in said
    with tarfile.open(made / "results.tar.gz") as file:
        assert file.extractfile("results/begun").read() == b"1\n"  # interrupted once


HANGS = f"""#!{sys.executable}
# Stands for a study that runs until it is interrupted, and says how often it was.
import pathlib, signal, sys, time
place, count = pathlib.Path("results"), 0
place.mkdir(exist_ok=True)
def interrupted(*_):
    global count
    count += 1
signal.signal(signal.SIGINT, interrupted)
(place / "begun").write_text("0\\n")
while not count:
    time.sleep(0.02)
time.sleep(0.3)
(place / "begun").write_text(f"{{count}}\\n")
sys.exit(130)
"""


def wait_for(path):
    deadline = time.monotonic() + 20
    while not path.exists():
        assert time.monotonic() < deadline, path
        time.sleep(0.02)


def test_a_list_of_packages_that_is_a_pipe_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "list.txt")
    with pytest.raises(UserError, match=r"found .*list\.txt \(a pipe\)"):
        packages.read_list(tmp_path / "list.txt")
