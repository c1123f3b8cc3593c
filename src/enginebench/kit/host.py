"""Run a kit on a machine without a network: join its parts, verify, install, measure, archive.

    python3 run.py                  everything, from the parts to results.tar.gz
    python3 run.py --limit 20       the same in at most about 20 minutes; call it again to go on

Made by `enginebench kit`. Asks no network and no package index. Every step that is done is not done
again, so it can be interrupted at any time and called again. Exit code: that of the study, 3 if
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
import shutil
import signal
import subprocess
import sys
import tarfile
import time
from pathlib import Path
from typing import Any, BinaryIO, NoReturn

FORMAT = 1
CHUNK = 1 << 20
GRACE_S = 120  # after the limit, for the last engine's end and the report; then it is interrupted
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
    started_s = time.monotonic()
    kit = Path(__file__).resolve().parent
    work = (options.into or kit / "work").resolve()
    manifest = read_manifest(kit)
    try:
        lock = hold(work)
        house = unpack(kit, manifest, work)
        install(house)
        left_s = (
            None if options.limit is None else options.limit * 60 + started_s - time.monotonic()
        )
        code = run_study(house, manifest, left_s, lock)
        archive = pack_results(house, kit if os.access(kit, os.W_OK) else work)
    except KeyboardInterrupt:
        say("interrupted; call this again to go on")
        sys.exit(INTERRUPTED)
    except OSError as error:
        stop(f"cannot go on ({error}); make room, or give --into; what is there is in {work}")
    say(f"results: {archive} ({archive.stat().st_size / 2**20:.1f} MiB)")
    if code in (TIME_IS_UP, INTERRUPTED):
        say("not all of it is measured yet: call this again to go on")
    sys.exit(code)


def say(text: str) -> None:
    print(f"kit: {text}", flush=True)


def stop(text: str) -> NoReturn:
    """A person's mistake, or a damaged kit: one line."""
    print(f"kit: {text}", file=sys.stderr)
    sys.exit(2)


def read_manifest(kit: Path) -> Manifest:
    file = kit / "kit.json"
    try:
        manifest: Manifest = json.loads(file.read_text())
    except (OSError, ValueError) as error:
        stop(f"{file}: expected the kit's manifest, found: {error}; copy it here again")
    here = f"{sys.version_info[0]}.{sys.version_info[1]}"
    wanted = manifest.get("python")
    if wanted != here:
        stop(
            f"expected Python {wanted}, for which this kit is, found {here}; run: python{wanted} …"
        )
    for name, value in (("format", FORMAT), ("machine", platform.machine())):
        if manifest.get(name) != value:
            stop(f"{file}: expected {name} {value}, found {manifest.get(name)}; pack it for that")
    return manifest


def hold(work: Path) -> BinaryIO:
    """See to it that nobody else works there, as long as the file is open anywhere."""
    work.mkdir(parents=True, exist_ok=True)
    lock = (work / ".lock").open("wb")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        stop(f"{work}: expected nobody at work there, found this kit running; wait for its end")
    except OSError:  # a file system that has no locks
        pass
    return lock


def unpack(kit: Path, manifest: Manifest, work: Path) -> Path:
    """Join the parts into a directory of ``work``, each verified on the way; whole or not at all.

    Returns:
        That directory.
    """
    house = work / "kit"
    mark = house / ".unpacked"
    identity = hashlib.sha256(json.dumps(manifest["parts"]).encode()).hexdigest()
    if mark.exists() and mark.read_text() == identity:
        say("unpacked already")
        return house
    if house.exists():
        stop(f"{house}: expected this kit unpacked, found something else; remove it or give --into")
    missing = [part["name"] for part in manifest["parts"] if not (kit / part["name"]).exists()]
    if missing:
        stop(f"{len(missing)} parts are missing ({', '.join(missing[:5])}); copy them here")
    half = work / ".part"
    shutil.rmtree(half, ignore_errors=True)
    half.mkdir()
    size = sum(part["bytes"] for part in manifest["parts"])
    free = shutil.disk_usage(half).free
    if free < size:
        stop(f"{half}: expected {size / 2**30:.1f} GiB free, found {free / 2**30:.1f}; use --into")
    say(f"joining and verifying {len(manifest['parts'])} parts, {size / 2**20:.0f} MiB ...")
    joined = Joined(kit, manifest["parts"])
    try:
        with tarfile.open(fileobj=joined, mode="r|") as file:
            # Python 3.11.3 and older know no filters; the checksums say whose archive it is.
            safely: Any = {"filter": "data"} if hasattr(tarfile, "data_filter") else {}
            file.extractall(half, **safely)
        joined.drain()
    except tarfile.TarError as error:
        joined.drain()  # a part that is damaged is named
        stop(f"the kit cannot be unpacked ({error}); pack it again")
    (half / mark.name).write_text(identity)
    half.rename(house)
    return house


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
            stop(
                f"{part['name']}: expected sha256 {part['sha256'][:16]}…, found {found[:16]}…; "
                "copy this part again"
            )


def install(house: Path) -> None:
    """The harness, from the kit's wheels alone. Engines get theirs when the study starts."""
    home = house / ".venv"
    mark = home / ".complete"
    if mark.exists():
        return
    say("installing the harness ...")
    shutil.rmtree(home, ignore_errors=True)
    wheels = house / "wheels"
    where = ["--no-index", "--no-deps", "--find-links", str(wheels)]
    pip = [str(home / "bin" / "python"), "-m", "pip", "install", "-q", *where]
    for call in (
        [sys.executable, "-m", "venv", str(home)],
        [*pip, "-r", str(wheels / "enginebench.txt")],
    ):
        if subprocess.run(call, env=environment()).returncode:
            stop(f"{' '.join(call[:4])} ... failed, see above (Debian: apt install python3-venv)")
    mark.touch()


def environment() -> dict[str, str]:
    """Ours, without what would lead pip elsewhere, and without tokens: there is no hub to ask."""
    left_out = ("PIP_", "PYTHONPATH", "HF_TOKEN", "WANDB_API_KEY")
    kept = {name: v for name, v in os.environ.items() if not name.startswith(left_out)}
    quiet = {"PIP_CONFIG_FILE": os.devnull, "PIP_DISABLE_PIP_VERSION_CHECK": "1"}
    return kept | quiet | {"HF_HUB_OFFLINE": "1", "PYTHONSAFEPATH": "1"}


def run_study(house: Path, manifest: Manifest, left_s: float | None, lock: BinaryIO) -> int:
    """The study, gone on with if it was begun; its exit code."""
    python = str(house / ".venv" / "bin" / "python")
    call = [python, "-m", "enginebench", "study", manifest["file"], "--runner", "process"]
    call += ["--resume", "--profile", "gpu" if manifest["device"] == "cuda" else "cpu"]
    if left_s is not None:
        call += ["--limit", f"{max(left_s, 0) / 60:.2f}"]
    say(f"running the study {manifest['study']} ...")
    asked: list[int] = []  # signals that came
    running: list[subprocess.Popen[bytes]] = []

    def forward(number: int, frame: object) -> None:
        asked.append(number)
        for process in running:
            process.send_signal(signal.SIGINT)

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) != signal.SIG_IGN:  # as nohup has it
            signal.signal(number, forward)
    # In a session of its own: a terminal's Ctrl-C reaches it once, from here. It holds the lock.
    study = subprocess.Popen(
        call, cwd=house, env=environment(), start_new_session=True, pass_fds=[lock.fileno()]
    )
    running.append(study)
    if asked:
        study.send_signal(signal.SIGINT)
    try:
        return study.wait(None if left_s is None else max(left_s, 0) + GRACE_S)
    except subprocess.TimeoutExpired:
        say("time is up: stopping the engine that is running")
        study.send_signal(signal.SIGINT)
        study.wait()
    if any((house / "results").glob("*/study.json")):
        subprocess.run([python, "-m", "enginebench", "report"], cwd=house, env=environment())
    return TIME_IS_UP


def pack_results(house: Path, place: Path) -> Path:
    """All results as one archive in ``place``; the one before is replaced."""
    archive = place / "results.tar.gz"
    part = archive.with_name(f"{archive.name}.part")
    with tarfile.open(part, "w:gz") as file:
        if (house / "results").exists():
            file.add(house / "results", "results")
    part.replace(archive)
    return archive


if __name__ == "__main__":
    main()
