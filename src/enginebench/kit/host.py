# Over 300 lines, as it must be one file: it is copied into kits and runs without this package.
"""Run a kit on a machine without a network: join its parts, verify, install, measure, archive.

    python3 run.py                  everything, from the parts to results.tar.gz
    python3 run.py --limit 20       the same in at most about 20 minutes; run it again to continue

Packed by `enginebench kit`. It uses no network and no package index. It does no complete step
again, so you can interrupt it at any time and run it again. Exit code: that of the study; 3 if
time was up before its end, 130 if interrupted, 2 if the kit cannot be used as it is.
"""

from __future__ import annotations  # so that an older Python can say which one is needed

import argparse
import fcntl
import hashlib
import io
import json
import os
import platform
import re
import shutil
import signal
import subprocess
import sys
import tarfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, NoReturn

FORMAT = 1
CHUNK = 1 << 20
GRACE_S = 120  # after the limit, for the last engine's end and the report; then it is interrupted
MOST_MINUTES = 100_000
MOST_BYTES = 1 << 50  # of a part
USER_ERROR = 2  # this and the next two: as in cli/exit_codes.py, which is not here
TIME_IS_UP = 3
INTERRUPTED = 130

Manifest = dict[str, Any]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--limit", type=float, help="minutes (default: as long as it takes)")
    parser.add_argument("--into", type=Path, help="where to unpack and work (default: work here)")
    options = parser.parse_args()
    if options.limit is not None and not 0 <= options.limit <= MOST_MINUTES:
        fail(f"--limit: expected minutes, found {options.limit}")
    started_s = time.monotonic()
    kit = Path(__file__).resolve().parent
    work = (options.into or kit / "work").resolve()
    manifest = read_manifest(kit)
    try:
        lock = hold(work)
        project = unpack(kit, manifest, work)
        install(project)
        left_s = (
            None if options.limit is None else options.limit * 60 + started_s - time.monotonic()
        )
        code = run_study(project, manifest, left_s, lock)
        archive = pack_results(project, kit if os.access(kit, os.W_OK) else work)
    except KeyboardInterrupt:
        log("interrupted; run this again to continue")
        sys.exit(INTERRUPTED)
    except OSError as error:
        fail(f"cannot continue ({error}); free some space, or give --into; {work} is kept")
    log(f"results: {archive} ({archive.stat().st_size / 2**20:.1f} MiB)")
    if code in (TIME_IS_UP, INTERRUPTED):
        log("the study is not complete: run this again to continue")
    sys.exit(code)


def log(text: str) -> None:
    print(f"kit: {text}", flush=True)


def fail(text: str) -> NoReturn:
    """End with one line: a user's mistake, or a damaged kit, whose texts may be anything."""
    shown = "".join(letter if letter.isprintable() else "?" for letter in text[:1000])
    print(f"kit: {shown}", file=sys.stderr)
    sys.exit(USER_ERROR)


def read_manifest(kit: Path) -> Manifest:
    file = kit / "kit.json"
    try:
        if not file.is_file():
            raise OSError("no such file")
        manifest: Manifest = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        fail(f"{file}: expected the kit's manifest, found: {error}; copy it here again")
    if not isinstance(manifest, dict):
        fail(f"{file}: expected the kit's manifest, found: no JSON object; copy it here again")
    here = f"{sys.version_info[0]}.{sys.version_info[1]}"
    wanted = manifest.get("python")
    if wanted != here:
        fail(
            f"expected Python {wanted}, for which this kit is, found {here}; run: python{wanted} …"
        )
    for name, value in (("format", FORMAT), ("machine", platform.machine())):
        if manifest.get(name) != value:
            fail(f"{file}: expected {name} {value}, found {manifest.get(name)}; pack it for that")
    for problem in problems(manifest):
        fail(f"{file}: {problem}; copy it here again")
    return manifest


def problems(manifest: Manifest) -> Iterator[str]:
    """What a manifest lacks that the rest of this program reads."""
    for name, pattern in (
        ("study", r"[a-z0-9][a-z0-9._-]*"),
        ("file", r"studies/[^/\0]+\.ya?ml"),
        ("device", "cpu|cuda"),
    ):
        if not matches(manifest.get(name), pattern):
            yield f"expected {name} as it was packed, found {str(manifest.get(name))[:80]!r}"
    parts = manifest.get("parts")
    if not isinstance(parts, list) or not parts:
        yield "expected a list of the kit's parts, found none"
        return
    names = []
    for number, part in enumerate(parts):
        row = part if isinstance(part, dict) else {}
        size = row.get("bytes")
        is_part = matches(row.get("name"), r"part-\d+") and matches(
            row.get("sha256"), "[0-9a-f]{64}"
        )
        if not is_part or type(size) is not int or not 0 <= size <= MOST_BYTES:
            yield f"expected name, bytes and sha256 of part {number}, found {str(part)[:120]!r}"
            return
        names.append(row["name"])
    if len(set(names)) != len(names):
        yield "expected each part once, found one twice"


def matches(value: object, pattern: str) -> bool:
    return isinstance(value, str) and re.fullmatch(pattern, value) is not None


def hold(work: Path) -> BinaryIO:
    """Lock the working directory for as long as the file is open anywhere."""
    work.mkdir(parents=True, exist_ok=True)
    lock = (work / ".lock").open("wb")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        fail(f"{work}: expected it to be free, found this kit running there; wait for its end")
    except OSError:  # a file system that has no locks
        pass
    return lock


def unpack(kit: Path, manifest: Manifest, work: Path) -> Path:
    """Join the parts into a directory of ``work``, each verified on the way; all or nothing.

    Returns:
        That directory.
    """
    project = work / "kit"
    mark = project / ".unpacked"
    identity = hashlib.sha256(json.dumps(manifest["parts"]).encode()).hexdigest()
    if mark.exists() and mark.read_text() == identity:
        log("unpacked already")
        return project
    if project.exists():
        fail(f"{project}: expected this kit, found something else; remove it or give --into")
    missing = [part["name"] for part in manifest["parts"] if not (kit / part["name"]).is_file()]
    if missing:
        fail(f"{len(missing)} parts are missing ({', '.join(missing[:5])}); copy them here")
    half = work / ".part"
    shutil.rmtree(half, ignore_errors=True)
    half.mkdir()
    size = sum(part["bytes"] for part in manifest["parts"])
    free = shutil.disk_usage(half).free
    if free < size:
        fail(f"{half}: expected {size / 2**30:.1f} GiB free, found {free / 2**30:.1f}; use --into")
    log(f"joining and verifying {len(manifest['parts'])} parts, {size / 2**20:.0f} MiB ...")
    joined = Joined(kit, manifest["parts"])
    try:
        with tarfile.open(fileobj=joined, mode="r|") as file:
            # Python 3.11.3 and older know no filters; the checksums say whose archive it is.
            safely: Any = {"filter": "data"} if hasattr(tarfile, "data_filter") else {}
            file.extractall(half, **safely)
        joined.drain()
    except (tarfile.TarError, EOFError, ValueError) as error:
        joined.drain()  # a part that is damaged is named
        fail(f"the kit cannot be unpacked ({error}); pack it again")
    (half / mark.name).write_text(identity)
    half.rename(project)
    return project


class Joined(io.RawIOBase):
    """The parts as one file; a part whose checksum is wrong ends the program."""

    def __init__(self, kit: Path, parts: list[dict[str, Any]]) -> None:
        self._kit = kit
        self._parts = list(parts)
        self._file: BinaryIO | None = None
        self._digest = hashlib.sha256()

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while self._parts:
            if self._file is None:
                self._file = (self._kit / self._parts[0]["name"]).open("rb")
                self._digest = hashlib.sha256()
            data = self._file.read(len(buffer))
            if data:
                self._digest.update(data)
                buffer[: len(data)] = data
                return len(data)
            self._file.close()
            self._file = None
            self._check(self._parts.pop(0))
        return 0

    def drain(self) -> None:
        """Read what the archive does not need, so that the last part is verified too."""
        while self.read(CHUNK):
            pass

    def _check(self, part: dict[str, Any]) -> None:
        found = self._digest.hexdigest()
        if found != part["sha256"]:
            fail(
                f"{part['name']}: expected sha256 {part['sha256'][:16]}…, found {found[:16]}…; "
                "copy this part again"
            )


def install(project: Path) -> None:
    """The harness, from the kit's wheels alone. Engines get theirs when the study starts."""
    home = project / ".venv"
    mark = home / ".complete"
    if mark.exists():
        return
    log("installing the harness ...")
    shutil.rmtree(home, ignore_errors=True)
    wheels = project / "wheels"
    where = ["--no-index", "--no-deps", "--find-links", str(wheels)]
    pip = [str(home / "bin" / "python"), "-m", "pip", "install", "-q", *where]
    for call in (
        [sys.executable, "-m", "venv", str(home)],
        [*pip, "-r", str(wheels / "enginebench.txt")],
    ):
        if subprocess.run(call, env=environment()).returncode:
            fail(f"{' '.join(call[:4])} ... failed, see above (Debian: apt install python3-venv)")
    mark.touch()


def environment() -> dict[str, str]:
    """Ours, without what leads pip to an index, and without tokens, as there is no hub to ask."""
    left_out = ("PIP_", "PYTHONPATH", "HF_TOKEN", "WANDB_API_KEY")
    kept = {name: v for name, v in os.environ.items() if not name.startswith(left_out)}
    quiet = {"PIP_CONFIG_FILE": os.devnull, "PIP_DISABLE_PIP_VERSION_CHECK": "1"}
    return kept | quiet | {"HF_HUB_OFFLINE": "1", "PYTHONSAFEPATH": "1"}


def run_study(project: Path, manifest: Manifest, left_s: float | None, lock: BinaryIO) -> int:
    """Run the study, or resume it; its exit code."""
    python = str(project / ".venv" / "bin" / "python")
    call = [python, "-m", "enginebench", "study", manifest["file"], "--runner", "process"]
    call += ["--resume", "--profile", "gpu" if manifest["device"] == "cuda" else "cpu"]
    if left_s is not None:
        call += ["--limit", f"{max(left_s, 0) / 60:.2f}"]
    log(f"running the study {manifest['study']} ...")
    interrupts: list[int] = []
    running: list[subprocess.Popen[bytes]] = []

    def forward(number: int, frame: object) -> None:
        interrupts.append(number)
        for process in running:
            process.send_signal(signal.SIGINT)

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) != signal.SIG_IGN:  # as nohup has it
            signal.signal(number, forward)
    # In a session of its own: a terminal's Ctrl-C reaches it once, from here. It holds the lock.
    study = subprocess.Popen(
        call, cwd=project, env=environment(), start_new_session=True, pass_fds=[lock.fileno()]
    )
    running.append(study)
    if interrupts:
        study.send_signal(signal.SIGINT)
    try:
        return study.wait(None if left_s is None else max(left_s, 0) + GRACE_S)
    except subprocess.TimeoutExpired:
        log("time is up: stopping the engine that is running")
        study.send_signal(signal.SIGINT)
        study.wait()
    if any((project / "results").glob("*/study.json")):
        subprocess.run([python, "-m", "enginebench", "report"], cwd=project, env=environment())
    return TIME_IS_UP


def pack_results(project: Path, place: Path) -> Path:
    """All results as one archive in ``place``; the one before is replaced."""
    archive = place / "results.tar.gz"
    part = archive.with_name(f"{archive.name}.part")
    with tarfile.open(part, "w:gz") as file:
        if (project / "results").exists():
            file.add(project / "results", "results")
    part.replace(archive)
    return archive


if __name__ == "__main__":
    main()
