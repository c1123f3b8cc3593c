"""Faults in a record: one report for many damaged cells, one for each damaged document.
Over 300 lines, as it is a list."""

import gzip
import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import made_record
from harness import Fault, Result, named, place, result, run

VALID = "^$"
LAUNCH = "trial1_quick_plain"
OTHER = "trial1_slow_plain"
REQUESTS, SCRAPES = "requests.jsonl", "scrapes.jsonl.gz"
PROCESSES, CELL = "processes.jsonl", "cell.json"

Spoil = Callable[[Path], object]


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-9])


def fifo(path: Path) -> None:
    path.unlink(missing_ok=True)
    os.mkfifo(path)


def link(target: str) -> Spoil:
    def spoil(path: Path) -> None:
        path.unlink(missing_ok=True)
        path.symlink_to(target)

    return spoil


def directory(path: Path) -> None:
    path.unlink(missing_ok=True)
    path.mkdir()


def content(data: bytes) -> Spoil:
    return lambda path: path.write_bytes(data)


def rows(change: Callable[[dict[str, Any]], object]) -> Spoil:
    """Change every row of requests.jsonl."""

    def spoil(path: Path) -> None:
        found = made_record.read_rows(path.parent)
        for row in found:
            change(row)
        made_record.save_rows(path.parent, found)

    return spoil


def fields(**changes: Any) -> Spoil:
    """Change fields of a JSON document."""
    return lambda path: path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def pages(*texts: object) -> Spoil:
    """Other pages in scrapes.jsonl.gz."""
    lines = [{"t_s": float(n), "status": 200, "text": text} for n, text in enumerate(texts)]
    packed = gzip.compress("".join(json.dumps(line) + "\n" for line in lines).encode())
    return content(packed)


#: What is done to a file after it had its checksum: fault -> the file, what is done.
DAMAGED: Mapping[str, tuple[str, Spoil]] = {
    f"{file} {name}": (file, spoil)
    for file in (REQUESTS, SCRAPES, PROCESSES, CELL)
    for name, spoil in {
        "missing": lambda path: path.unlink(),
        "cut": cut,
        "empty": content(b""),
        "binary": content(bytes(range(256)) * 9),
        "a list": content(b"[]\n"),
        "a pipe": fifo,
        "a directory": directory,
        "a link to a device": link("/dev/zero"),
        "a link to a person's file": link("/etc/hostname"),
    }.items()
} | {
    "times scaled by 0.7": (
        REQUESTS,
        rows(lambda r: r.update(event_s=[0.7 * t for t in r["event_s"]])),
    ),
    "a request twice": (
        REQUESTS,
        lambda path: path.write_text(path.read_text() + path.read_text().splitlines()[-1] + "\n"),
    ),
    "a request left out": (
        REQUESTS,
        lambda path: path.write_text("".join(path.read_text().splitlines(keepends=True)[1:])),
    ),
    "a text edited": (REQUESTS, rows(lambda r: r.update(text="other"))),
    "a death left out": (CELL, fields(log_tail=["x"])),
}

WHAT = "expected .*? found"
#: What somebody wrote and gave a right checksum: fault -> the file, what it is, what is said.
FORGED: Mapping[str, tuple[str, Spoil, str]] = {
    "NaN as a time": (REQUESTS, rows(lambda r: r.update(sent_s=float("nan"))), WHAT),
    "infinity as a time": (
        REQUESTS,
        lambda path: path.write_text(
            path.read_text().replace('"end_s": ', '"end_s": 1e999, "x": ', 1)
        ),
        "expected|invalid|order",
    ),
    "1e300 as a time": (REQUESTS, rows(lambda r: r.update(end_s=1e300)), ""),
    "times that are negative": (
        REQUESTS,
        rows(lambda r: r.update(event_s=[-t for t in r["event_s"]])),
        "must be above 0|not in order",
    ),
    "a count of 64 bits": (REQUESTS, rows(lambda r: r.update(output_tokens=2**63)), WHAT),
    "a count of 31 bits": (REQUESTS, rows(lambda r: r.update(output_tokens=2**31 - 1)), "output"),
    "a negative count": (REQUESTS, rows(lambda r: r.update(output_tokens=-1)), WHAT),
    "a count in text": (REQUESTS, rows(lambda r: r.update(prompt_tokens="8")), WHAT),
    "a field left out": (REQUESTS, rows(lambda r: r.pop("event_s")), WHAT),
    "lists of different lengths": (REQUESTS, rows(lambda r: r.update(event_tokens=[1])), ""),
    "no events": (
        REQUESTS,
        rows(lambda r: r.update(event_s=[], event_tokens=[], event_chars=[])),
        "",
    ),
    "a phase that is none": (REQUESTS, rows(lambda r: r.update(phase="x")), WHAT),
    "no rows": (REQUESTS, content(b""), "requests were recorded"),
    "a row that is a list": (REQUESTS, content(b"[1]\n"), WHAT),
    "a row of 100,000 levels": (REQUESTS, content(b'{"a":' * 100_000 + b"\n"), WHAT),
    "half a character": (REQUESTS, rows(lambda r: r.update(text=f"\ud83d {r['text']}")), VALID),
    "escapes and markup in an error": (
        REQUESTS,
        rows(lambda r: r.update(error="\x1b[31m <script>x</script> | `\n# h", error_kind="http")),
        "requests failed",
    ),
    "a page of brackets": (SCRAPES, pages("[" * 100_000, "[" * 100_000), "could not be read"),
    "a page of 400 digits": (SCRAPES, pages("made_total 1" + "0" * 400), "could not be read"),
    "a page of odd labels": (SCRAPES, pages('made_total{a="1", ="x"} 1'), "could not be read"),
    "a page that is a number": (SCRAPES, pages(5), WHAT),
    "a gzip bomb": (SCRAPES, content(gzip.compress(bytes(200 << 20))), "a longer one|expected"),
    "no pages": (SCRAPES, content(gzip.compress(b"")), "no reading of its engine's metrics"),
    "not gzip": (SCRAPES, content(b"{}\n"), "expected a gzip file"),
    "a memory below 0": (PROCESSES, content(b'{"t_s": 0, "pss_bytes": -1, "pids": [1]}\n'), WHAT),
    "a memory of 64 bits": (
        PROCESSES,
        content(b'{"t_s": 0, "pss_bytes": 18446744073709551615, "pids": [1]}\n'),
        WHAT,
    ),
    "a process of 1e300 s": (
        PROCESSES,
        content(b'{"t_s": 1e300, "pss_bytes": 1, "pids": [1]}\n'),
        r"resident is 1e\+300",
    ),
    "clocks of 1e300 s": (CELL, fields(ended={"t_s": 1e300, "wall_s": -1e300, "gpus": []}), ""),
    "a cell that is a number": (CELL, content(b"5"), WHAT),
    "a death with escapes": (
        CELL,
        fields(engine_death="\x1b[2J<img src=x>|\n#", log_tail=["```", "\x1b]0;x\x07"]),
        "img",
    ),
}


def _record(root: Path, cells: int) -> Path:
    loads = [
        {
            "name": "many",
            "prompt_tokens": 8,
            "output_tokens": 5,
            "concurrency": list(range(1, cells + 1)),
        }
    ]
    return made_record.write(
        root / "results" / "made", {"quick/plain": (1,), "slow/plain": (2,)}, workloads=loads
    )


def damaged() -> list[Result]:
    """Files that are not as their checksums say: their cells are invalid, with the file's name."""
    expected = {name: file for name, (file, _) in DAMAGED.items()}
    return _many("record", {n: (f, s) for n, (f, s) in DAMAGED.items()}, expected, seals_last=False)


def forged() -> list[Result]:
    """Files of somebody else's making, with right checksums."""
    spoils = {name: (file, spoil) for name, (file, spoil, _) in FORGED.items()}
    expected = {name: says for name, (_, _, says) in FORGED.items()}
    return _many("forged record", spoils, expected, seals_last=True)


def _many(
    group: str,
    spoils: Mapping[str, tuple[str, Spoil]],
    expected: Mapping[str, str],
    *,
    seals_last: bool,
) -> list[Result]:
    with place() as root:
        record = _record(root, len(spoils))
        if not seals_last:
            made_record.seal(record)
        for level, (file, spoil) in enumerate(spoils.values(), 1):
            spoil(record / "raw" / LAUNCH / f"many-c{level}" / file)
        if seals_last:
            made_record.seal(record)
        ended = run(root, ["report", record], deadline_s=120)
        cells = _cells(record)
        unharmed = sum(cell["verdict"] == "valid" for cell in cells if cell["launch"] == OTHER)
        found = []
        for level, name in enumerate(spoils, 1):
            mine = [c for c in cells if (c["launch"], c["concurrency"]) == (LAUNCH, level)]
            says = "; ".join(problem for cell in mine for problem in cell["problems"])
            words = named(expected[name], says) or ("valid" if mine and not says else "")
            words = words if expected[name] else "read, or refused for what it says"
            lost = int(not mine) + len(spoils) - unharmed
            found.append(Result(group, name, words, ended.code, lost, ended, says))
        return found


def _cells(record: Path) -> list[dict[str, Any]]:
    file = record / "derived" / "metrics_data.json"
    return json.loads(file.read_text())["cells"] if file.is_file() else []


#: What becomes of a document -> the document, what is done, what is said, the exit code.
DOCUMENTS: Mapping[str, tuple[str, Spoil, str, int]] = {
    f"study.json {name}": ("study.json", spoil, says, 2)
    for name, (spoil, says) in {
        "empty": (content(b""), "study.json: expected a JSON file.*? found nothing"),
        "not UTF-8": (content(b"\xff\xfe"), "study.json: expected"),
        "a list": (content(b"[]"), "study.json: expected"),
        "of 100,000 levels": (content(b"[" * 100_000), "study.json: expected"),
        "a pipe": (fifo, "study.json: expected .*? found no regular file"),
        "a directory": (directory, "study.json: expected .*? found"),
        "a link to a device": (link("/dev/zero"), "study.json: expected .*? a symbolic link"),
        "missing": (lambda path: path.unlink(), "found no study.json"),
        "of a newer version": (fields(schema=99), "expected schema [0-9]+, found 99"),
        "of a schema in text": (fields(schema="3"), "expected schema [0-9]+, found '3'"),
        "without its plan": (lambda path: path.write_text('{"schema": 3}'), "study.json: expected"),
        "with an odd ceiling": (fields(ceiling={"name": 5}), "study.json: expected"),
        "of 70 MiB": (content(b" " * (70 << 20)), "expected at most 64 MiB"),
    }.items()
} | {
    "a price edited": (
        "study.json",
        lambda path: path.write_text(path.read_text().replace("3.6", "1.6")),
        "invalid: .*?study.json: altered|altered since",
        0,
    ),
    "markup in a name": (
        "study.json",
        lambda path: path.write_text(
            path.read_text().replace('"a CPU"', '"<img src=x onerror=y> | \\u001b[31m"')
        ),
        "report: ",
        0,
    ),
    "finished.json a list": ("finished.json", content(b"[]"), "report: ", 0),
    "finished.json a pipe": ("finished.json", fifo, "report: ", 0),
    "finished.json binary": ("finished.json", content(b"\xff\x00"), "report: ", 0),
    "finished.json missing": ("finished.json", lambda path: path.unlink(), "report: ", 0),
    "events.jsonl binary": ("events.jsonl", content(bytes(range(256))), "report: ", 0),
    "events.jsonl a pipe": ("events.jsonl", fifo, "report: ", 0),
    "events.jsonl a directory": ("events.jsonl", directory, "report: ", 0),
    "launch.json a list": (
        f"raw/{LAUNCH}/launch.json",
        content(b"[]"),
        "invalid: .*?launch.json",
        0,
    ),
    "launch.json without fields": (
        f"raw/{LAUNCH}/launch.json",
        content(b"{}"),
        "invalid: .*?launch.json",
        0,
    ),
    "launch.json a pipe": (f"raw/{LAUNCH}/launch.json", fifo, "invalid: .*?launch.json", 0),
    "launch.json missing": (
        f"raw/{LAUNCH}/launch.json",
        lambda path: path.unlink(),
        "invalid: .*?launch.json",
        0,
    ),
    "agreement.jsonl.gz binary": (
        f"raw/{LAUNCH}/agreement.jsonl.gz",
        content(b"\xff" * 99),
        "invalid: .*?agreement.jsonl.gz",
        0,
    ),
    "container.jsonl binary": (
        f"raw/{LAUNCH}/container.jsonl",
        content(b"\xff" * 99),
        "invalid: .*?container.jsonl",
        0,
    ),
    "a launch that links elsewhere": (
        f"raw/{LAUNCH}",
        lambda path: (
            path.rename(path.parent.parent / "moved"),
            path.symlink_to(path.parent.parent / "moved"),
        ),
        "invalid: .*?symbolic link",
        0,
    ),
    "derived is a link": (
        "derived",
        link("/nowhere"),
        "derived: expected a directory, found a sym",
        2,
    ),
    "derived is a file": ("derived", content(b"mine"), "derived", 2),
    "derived/report.md links to a person's file": (
        "derived/report.md",
        lambda path: _linked(path),
        "report: ",
        0,
    ),
}


def _linked(path: Path) -> None:
    path.parent.mkdir()
    mine = path.parent.parent.parent / "mine.txt"
    mine.write_text("mine")
    path.symlink_to(mine)


def document(name: str) -> list[Result]:
    file, spoil, says, code = DOCUMENTS[name]
    with place() as root:
        record = _record(root, 2)
        made_record.seal(record)
        spoil(record / file)
        ended = run(root, ["report", record], deadline_s=60)
        mine = root / "results" / "mine.txt"
        lost = int(mine.exists() and mine.read_text() != "mine")
        if code == 0:
            lost += int(len(_cells(record)) != 4)
        return [result("record", Fault(name, says, code), ended, lost)]


def verified(name: str) -> list[Result]:
    """The same faults, asked of ``verify``."""
    file, spoil = DAMAGED[name]
    with place() as root:
        record = _record(root, 2)
        made_record.seal(record)
        spoil(record / "raw" / LAUNCH / "many-c1" / file)
        ended = run(root, ["verify", record])
        return [result("verify", Fault(name, f"{file}: ", 1), ended)]


def beside() -> list[Result]:
    """A record that cannot be read beside a good one, which is meant."""
    with place() as root:
        made_record.seal(_record(root, 2))
        for number, spoil in enumerate((content(b""), fifo, content(b"\xff"), directory)):
            other = root / "results" / f"z{number}"
            other.mkdir()
            spoil(other / "study.json")
        ended = run(root, ["report"])
        fault = Fault("four broken records beside a good one", "skipped: .*?study.json", 0)
        return [result("record", fault, ended, int(len(_cells(root / "results" / "made")) != 4))]


def jobs(cache: Path) -> list[Callable[[], list[Result]]]:
    asked = [
        f"{file} {how}" for file in (REQUESTS, SCRAPES) for how in ("cut", "missing", "a pipe")
    ]
    return [
        damaged,
        forged,
        beside,
        *(lambda name=name: document(name) for name in DOCUMENTS),
        *(lambda name=name: verified(name) for name in asked),
    ]
