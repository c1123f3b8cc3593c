"""The verbs that check whether a record is as it was written and signed, and that publish it."""

import shutil
import subprocess
from pathlib import Path
from typing import Annotated

import typer

from enginebench.base.errors import UserError
from enginebench.cli import exit_codes, terminal
from enginebench.cli.options import RESULTS, RecordArgument, ResultsOption

NAMESPACE = "enginebench"  # of signatures, so that one made for something else does not count
SIGNED = "finished.json"  # its checksums lead to every other file
TIMEOUT_S = 60
PUBLISHED = Path("results/published")


def verify(
    directory: RecordArgument = None,
    results: ResultsOption = RESULTS,
    sign: Annotated[
        Path | None, typer.Option("--sign", help="Sign the record with this SSH private key")
    ] = None,
    signers: Annotated[
        Path | None,
        typer.Option("--signers", help="Whose signature counts (see ALLOWED SIGNERS, ssh-keygen)"),
    ] = None,
) -> None:
    """Check that a study's raw files are as they were written.

    Each is compared with its checksum, and the signature is checked if there is one.

    Exit code 1: a file is missing, cut, altered or without a checksum, or the signature is wrong.
    """
    from enginebench.record.locating import latest

    target = directory or latest(results, terminal.skipped)
    faults = _faults(target)
    if sign is not None:
        _require_whole(target, faults, "sign")
        _sign(target / SIGNED, sign)
    is_signed = _check_signature(target / SIGNED, signers)
    if faults or not is_signed:
        raise typer.Exit(exit_codes.INVALID)


def publish(
    directory: RecordArgument = None,
    results: ResultsOption = RESULTS,
    to: Annotated[Path, typer.Option("--to", help="Where published records are")] = PUBLISHED,
) -> None:
    """Copy a record to the published ones, with its rows packed.

    Its checksums, its report and its figures stay as they are.
    """
    from enginebench.record import publishing
    from enginebench.record.locating import latest

    target = directory or latest(results, terminal.skipped)
    _require_whole(target, _faults(target), "publish")
    published = publishing.publish(target, to)
    size = sum(file.stat().st_size for file in published.rglob("*") if file.is_file())
    terminal.log(f"published: {published} ({size / 1e6:.1f} MB)")


def _faults(target: Path) -> int:
    """Print what is wrong with a record's files; returns in how many places."""
    from enginebench.record import manifest
    from enginebench.summarize import documents

    read = documents.read(target)
    listed = {path for launch in read.launches.values() for path in launch.files}
    if read.finished is not None:
        listed |= read.finished.files.keys()
    gaps = [f"{path}: has no checksum" for path in _unlisted(target, listed)]
    if read.finished is None:
        gaps.append("finished.json: not there, so the study was cut off; launch.json is unchecked")
    for text in (*read.damages.values(), *gaps):
        terminal.log(text)
    good = len(listed - set(read.damages))
    terminal.log(f"{target}: {good} of {len(listed)} files with a checksum are as recorded")
    if repacked := len(manifest.published(target)):
        terminal.log(f"{repacked} of them were packed anew when it was published (published.json)")
    return len(read.damages) + len(gaps)


def _unlisted(target: Path, listed: set[str]) -> list[str]:
    """Files that no checksum is of; a packed file has that of its content."""
    from enginebench.record import manifest

    found = (path for path in sorted(target.glob("raw/**/*")) if not path.is_dir())
    names = (str(path.relative_to(target)) for path in found)
    known = listed | {f"{path}.gz" for path in listed}
    known |= {f"{path.removesuffix('.gz')}.xz" for path in manifest.published(target)}
    return [name for name in ("study.json", *names) if name not in known]


def _require_whole(target: Path, faults: int, purpose: str) -> None:
    if faults:
        raise UserError(
            f"{target}: expected a whole record to {purpose}, found {faults} faults; "
            "restore the files, or resume the study"
        )


def _sign(file: Path, key: Path) -> None:
    signature = file.with_name(f"{file.name}.sig")
    signature.unlink(missing_ok=True)
    done = _ssh_keygen("-Y", "sign", "-f", str(key), "-n", NAMESPACE, str(file))
    if done.returncode:
        raise UserError(f"{key}: ssh-keygen could not sign with it: {_last_line(done)}")
    terminal.log(f"signed: {signature}")


def _check_signature(file: Path, signers: Path | None) -> bool:
    """Print what the signature is worth; False: it is wrong, or missing though one is asked for."""
    from enginebench.record import reading

    signature = file.with_name(f"{file.name}.sig")
    if not signature.is_file():
        terminal.log("not signed")
        return signers is None
    where = ("-n", NAMESPACE, "-s", str(signature))
    signed = reading.document_bytes(file)
    if signers is None:
        done = _ssh_keygen("-Y", "check-novalidate", *where, stdin=signed)
    else:
        asked = ("-Y", "find-principals", "-s", str(signature), "-f", str(signers))
        names = _ssh_keygen(*asked).stdout.splitlines()
        who = ("-I", names[0] if names else "nobody", "-f", str(signers))
        done = _ssh_keygen("-Y", "verify", *who, *where, stdin=signed)
    terminal.log(f"signature: {_last_line(done)}")
    return done.returncode == 0


def _ssh_keygen(*words: str, stdin: bytes = b"") -> subprocess.CompletedProcess[str]:
    if shutil.which("ssh-keygen") is None:
        raise UserError("ssh-keygen: expected it for signatures, found none; install OpenSSH")
    try:
        return subprocess.run(
            ["ssh-keygen", *words],
            input=stdin.decode(errors="surrogateescape"),
            capture_output=True,
            encoding="utf-8",
            errors="surrogateescape",
            timeout=TIMEOUT_S,
        )
    except subprocess.TimeoutExpired:
        raise UserError(f"ssh-keygen: no answer within {TIMEOUT_S} s") from None


def _last_line(done: subprocess.CompletedProcess[str]) -> str:
    lines = [line.strip() for line in f"{done.stdout}\n{done.stderr}".splitlines() if line.strip()]
    return lines[-1] if lines else f"ssh-keygen ended with {done.returncode}"
