"""Faults of the machine and of the command itself: signals, disks, limits, other people's files.
Over 300 lines, as it is a list."""

import contextlib
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from harness import Ended, Fault, Result, environment, place, result, run
from project import (
    enginebench,
    make_project,
    pass_on_the_token,
    run_study,
    study,
    taken_port,
    wait_for_step,
    write_study,
)

from enginebench.record import locating

GROUP = "host"
GOOD = {"engine": "alpha"}
INTERRUPTED = "interrupted: the engine was stopped and the record is kept"
KEPT = "cannot write .*? what was recorded before is kept and readable"


def project(root: Path) -> None:
    make_project(root, "alpha")
    pass_on_the_token(root / "alpha" / "launch.yaml")


def command(root: Path, cache: Path, *flags: object, **changes: Any) -> list[object]:
    """A short study of the well-behaved double."""
    file = write_study(root, study(GOOD, **changes))
    return ["study", file, "--root", root, "--cache", cache, *flags]


def lost_cells(root: Path) -> int:
    """1 if what was recorded, if anything was, cannot be reported afterwards."""
    if not list(root.glob("results/*/study.json")):
        return 0
    with contextlib.suppress(Exception):
        done = enginebench("report", cwd=root, timeout=60)
        return int(done.returncode not in (0, 1) or "Traceback" in done.stderr)
    return 1


def listen() -> None:
    """Below nohup, or in a background job of a shell, these are ignored; here they must count."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)


def signalled(cache: Path, number: signal.Signals, step: str) -> Result:
    def during(process: "subprocess.Popen[Any]") -> None:
        wait_for_step(root, step)
        os.kill(process.pid, number)

    with place() as root:
        project(root)
        words = command(root, cache, trials=50)
        ended = run(root, words, during=during, preexec_fn=listen)
        fault = Fault(f"{number.name} at step {step}", INTERRUPTED, 130)
        return result(GROUP, fault, ended, lost_cells(root))


def removed_while_it_runs(cache: Path) -> Result:
    def during(process: "subprocess.Popen[Any]") -> None:
        wait_for_step(root, "load")
        shutil.rmtree(root / "results")

    with place() as root:
        project(root)
        ended = run(root, command(root, cache, trials=50), during=during)
        named = "expected the record that is being written, found that it was removed|cannot write"
        return result(GROUP, Fault("results removed while it runs", named, 2), ended)


def limited(cache: Path, name: str, named: str, code: int | None, what: int, to: int) -> Result:
    """A study under a limit of the operating system."""
    with place() as root:
        project(root)
        workloads = study()["workloads"]
        workloads[1]["requests_per_stream"] = 12  # its requests.jsonl outgrows 12 kB
        ended = run(
            root,
            command(root, cache, workloads=workloads),
            preexec_fn=lambda: resource.setrlimit(what, (to, to)),
        )
        return result(GROUP, Fault(name, named, code), ended, lost_cells(root))


def few_files(cache: Path) -> Result:
    """A hard limit of open files below what the study's streams need."""
    with place() as root:
        project(root)
        workloads = study()["workloads"]
        workloads[1]["concurrency"] = [400]
        ended = run(
            root,
            command(root, cache, workloads=workloads),
            preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (256, 300)),
        )
        fault = Fault("a hard limit of 300 open files", "open files: expected a limit of at lea", 2)
        return result(GROUP, fault, ended)


def before(cache: Path, name: str, named: str, code: int, prepare: Callable[[Path], Any]) -> Result:
    """A study in a place that was prepared badly."""
    with place() as root:
        project(root)
        words = command(root, cache)
        more = prepare(root) or {}
        ended = run(root, [*words, *more.pop("flags", [])], **more)
        return result(GROUP, Fault(name, named, code), ended)


def port_taken(cache: Path) -> Result:
    with place() as root, taken_port() as port:
        project(root)
        ended = run(root, command(root, cache, port=port))
        fault = Fault(
            "the port is taken",
            f"port {port}: expected a free port".replace(str(port), "[0-9]+"),
            2,
        )
        return result(GROUP, fault, ended)


def resumed(cache: Path, name: str, named: str, code: int, spoil: Callable[[Path], Any]) -> Result:
    """A finished record that something is done to, and then resumed."""
    with place() as root:
        project(root)
        done = run_study(root, cache, study(GOOD), timeout=100)
        if done.returncode:
            raise AssertionError(done.stderr)
        record = locating.latest(root / "results")
        kept = spoil(record)
        ended = run(root, command(root, cache, "--resume"))
        lost = int(kept is not None and not os.path.lexists(kept))
        return result(GROUP, Fault(name, named, code), ended, lost + lost_cells(root))


def _stray(record: Path, kind: str) -> Path:
    (record / "finished.json").unlink()
    path = record / "raw" / "mine"
    if kind == "file":
        path.write_text("mine")
    elif kind == "directory":
        path.mkdir()
    elif kind == "link":
        path.symlink_to(record)
    else:
        os.mkfifo(path)
    return path


def _broken(record: Path, content: bytes | None) -> None:
    other = record.with_name("9999-broken")
    other.mkdir()
    if content is None:
        os.mkfifo(other / "study.json")
    else:
        (other / "study.json").write_bytes(content)


def gone_reader(cache: Path, stream: str) -> Result:
    """Nobody reads what the study prints any more."""
    with place() as root:
        project(root)
        read_end, write_end = os.pipe()
        os.close(read_end)
        try:
            ended = run(root, command(root, cache), **{stream: write_end})
        finally:
            os.close(write_end)
        fault = Fault(f"the reader of {stream} has gone", "whole", 0)
        return result(GROUP, fault, ended, lost_cells(root), "the record is whole")


NAMESPACES = ["unshare", "--uts", "--pid", "--fork", "--kill-child"]
ELSEWHERE = [*NAMESPACES, "sh", "-c", 'hostname elsewhere && exec "$@"', "sh"]


def can_leave() -> bool:
    """Whether this user may make namespaces."""
    with contextlib.suppress(OSError):
        return subprocess.run([*NAMESPACES, "true"], capture_output=True).returncode == 0
    return False


def two_harnesses(cache: Path, inside: str) -> Result:
    """A harness at work, and a whole study of another one meanwhile. One of them is under another
    host name, in a namespace of process numbers of its own: the first or the second."""
    with place() as root, place() as other:
        project(root)
        project(other)
        calls = []
        for number, where in enumerate((root, other)):
            words = command(where, cache, trials=50 if number == 0 else 1)
            call = [sys.executable, "-m", "enginebench", *map(str, words)]
            calls.append([*ELSEWHERE, *call] if inside == ("first", "second")[number] else call)
        first = subprocess.Popen(
            calls[0], cwd=root, env=environment(root), stdout=subprocess.DEVNULL
        )
        wait_for_step(root, "load")
        ended = run(other, [], start=lambda **options: subprocess.Popen(calls[1], **options))
        lost = int(first.poll() is not None) + deaths(root)
        # unshare itself takes no SIGINT; it ends what is inside when it is killed.
        first.send_signal(signal.SIGKILL if inside == "first" else signal.SIGINT)
        first.wait(60)
    fault = Fault(f"two harnesses, the {inside} one in other namespaces", "report: ", 0)
    return result(GROUP, fault, ended, lost)


def deaths(root: Path) -> int:
    """The cells and starts of a study, so far, whose engine was ended by somebody else."""
    cells = [json.loads(p.read_text()) for p in root.glob("results/*/raw/*/*/cell.json")]
    starts = [json.loads(p.read_text()) for p in root.glob("results/*/raw/*/launch.json")]
    found = [cell["engine_death"] for cell in cells] + [one.get("failure") for one in starts]
    return sum(death is not None for death in found)


def same_record(cache: Path) -> Result:
    """A second study that resumes the record that a first one is writing."""
    with place() as root:
        project(root)
        file = write_study(root, study(GOOD, trials=50))
        words = ["study", file, "--root", root, "--cache", cache]
        first = enginebench(*words, cwd=root, start=subprocess.Popen)
        wait_for_step(root, "ready")
        second = enginebench(*words, "--resume", cwd=root, timeout=60)
        first.send_signal(signal.SIGINT)
        first.communicate(timeout=60)
        ended = Ended(second.returncode, second.stdout + second.stderr, 0, 0, False, ())
        fault = Fault("two studies on one record", "another study is still at it", 2)
        return result(GROUP, fault, ended, lost_cells(root))


def jobs(cache: Path) -> list[Callable[[], list[Result]]]:
    def each(function: Callable[..., Result], *arguments: Any) -> Callable[[], list[Result]]:
        return lambda: [function(cache, *arguments)]

    whole = "every engine start is complete|engine starts complete"
    resumes = "resuming .*? engine starts complete"
    return [
        *(
            each(signalled, number, step)
            for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
            for step in ("up", "ready", "load")
        ),
        each(removed_while_it_runs),
        each(
            limited, "files of 12 kB at most (a full disk)", KEPT, 2, resource.RLIMIT_FSIZE, 12_000
        ),
        each(
            limited,
            "1.5 GiB of address space",
            "report: |out of memory|cannot start|failed",
            None,
            resource.RLIMIT_AS,
            3 << 29,
        ),
        each(few_files),
        each(port_taken),
        each(before, "results is a file", "expected a directory for results", 2, _results_file),
        each(before, "results is a link to nowhere", "results: .*? results", 2, _results_link),
        each(before, "the cache is a file", "cannot|expected", 2, _cache_file),
        each(before, "no HOME", "report: ", 0, lambda root: {"env": {"HOME": ""}}),
        each(before, "an ASCII locale", "report: ", 0, lambda root: {"env": ASCII}),
        each(before, "no room for a lock or a spool", "report: |TMPDIR|temporary", 0, _no_tmp),
        each(
            before, "a secret that is an ordinary word", "report: ", 0, lambda root: {"env": WORDS}
        ),
        each(gone_reader, "stdout"),
        each(gone_reader, "stderr"),
        each(same_record),
        *(each(two_harnesses, inside) for inside in ("first", "second") if can_leave()),
        *(
            each(resumed, f"a stray {kind} in raw/", resumes, 0, lambda r, k=kind: _stray(r, k))
            for kind in ("file", "directory", "link", "pipe")
        ),
        *(
            each(
                resumed,
                f"a broken record beside it: {name}",
                whole,
                0,
                lambda r, c=c: _broken(r, c),
            )
            for name, c in (
                ("empty", b""),
                ("not UTF-8", b"\xff\xfe"),
                ("a list", b"[]"),
                ("deep", b"[" * 100_000),
                ("a pipe", None),
            )
        ),
    ]


ASCII = {"LC_ALL": "C", "LANG": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
WORDS = {"MY_API_KEY": "default", "OTHER_TOKEN": "measured", "THIRD_SECRET": "length"}


def _results_file(root: Path) -> None:
    (root / "results").write_text("a file in the way")


def _results_link(root: Path) -> None:
    (root / "results").symlink_to(root / "nowhere" / "at" / "all")


def _cache_file(root: Path) -> dict[str, Any]:
    (root / "in-the-way").write_text("")
    return {"flags": ["--cache", root / "in-the-way"]}


def _no_tmp(root: Path) -> dict[str, Any]:
    return {"env": {"TMPDIR": str(root / "no" / "such" / "place")}}
