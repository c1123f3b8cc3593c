"""Faults in files that people hand in: studies, launch files, prompts, traces, models, tables.
Over 300 lines, as it is a list."""

import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from harness import Fault, Result, place, result, run
from project import make_project, study, write_study

Make = Callable[[Path], list[object]]


@dataclass(frozen=True, slots=True)
class Case:
    """A bad file, and what is said of it."""

    group: str
    name: str
    named: str
    make: Make  # puts it below a project's root; the words of the command that reads it
    code: int = 2


HEAD = "name: a\nengines: [{engine: alpha}]\n"
LOADS = "workloads: [{name: w, prompt_tokens: 8, output_tokens: 2, concurrency: [1]}]\n"
STUDY = HEAD + LOADS
OPEN = STUDY.replace("concurrency: [1]", "rate: [%s]")


def text(content: str | bytes, name: str = "studies/bad.yaml") -> Make:
    """Write a file; a study that only has to be planned."""

    def make(root: Path) -> list[object]:
        data = content.encode() if isinstance(content, str) else content
        (root / name).write_bytes(data)
        return ["plan", root / name, "--root", root]

    return make


def pipe(root: Path) -> list[object]:
    os.mkfifo(root / "studies" / "bad.yaml")
    return ["plan", root / "studies" / "bad.yaml", "--root", root]


def endless(root: Path) -> list[object]:
    (root / "studies" / "bad.yaml").symlink_to("/dev/zero")
    return ["plan", root / "studies" / "bad.yaml", "--root", root]


def studies() -> list[Case]:
    found: dict[str, tuple[str, Make]] = {
        "empty": ("expected a mapping with name, engines and workloads", text("")),
        "a list": ("expected a mapping with name", text("- a\n")),
        "not YAML": ("bad.yaml:2: expected YAML", text("a: 1\n]\n")),
        "a tab": ("bad.yaml:[0-9]+: expected YAML", text(STUDY + "price:\n\tname: x\n")),
        "two documents": ("expected YAML", text(STUDY + "---\n" + STUDY)),
        "a key twice": ("the key 'workloads' twice, first in line 3", text(STUDY + LOADS)),
        "a key twice in a section": (
            "the key 'name' twice",
            text(STUDY + "price: {name: a, name: b}"),
        ),
        "octal": ("'010000', which YAML reads to base 8", text(STUDY + "port: 010000\n")),
        "base 60": ("'1:30', which YAML reads to base 8 or 60", text(STUDY + "seed: 1:30\n")),
        "infinity": ("request_timeout_s: ", text(STUDY + "request_timeout_s: .inf\n")),
        "NaN": ("scrape_interval_s: ", text(STUDY + "scrape_interval_s: .nan\n")),
        "1e300": ("calibration_s: ", text(STUDY + "calibration_s: 1e300\n")),
        "infinity in text": ("ready_timeout_s: ", text(STUDY + "ready_timeout_s: inf\n")),
        "an infinite rate": (r"workloads\[0\].rate\[0\]: ", text(OPEN % ".inf")),
        "a rate of NaN": (r"workloads\[0\].rate\[0\]: ", text(OPEN % ".nan")),
        "a tiny rate": ("at most 10,000,000 seconds a level", text(OPEN % "1e-9")),
        "a billion streams": (
            "less than or equal to 65536",
            text(STUDY.replace("[1]", "[1000000000]")),
        ),
        "a trillion requests": (
            "less than or equal to 2147483647",
            text(
                STUDY.replace("prompt_tokens: 8", "prompt_tokens: 8, min_requests: 1000000000000")
            ),
        ),
        "a billion trials": ("at most 100,000 cells", text(STUDY + "trials: 1000000000\n")),
        "a number of 5,000 digits": (
            "a number of 5000 characters",
            text(STUDY + f"seed: {'9' * 5000}"),
        ),
        "a seed of 70 bits": ("seed: ", text(STUDY + f"seed: {2**70}\n")),
        "20,000 levels": ("more than 50 levels", text(STUDY + "title: " + "[" * 20_000)),
        "300 levels of blocks": (
            "more than 50 levels|expected YAML",
            text(STUDY + "".join(" " * n + "a:\n" for n in range(300))),
        ),
        "aliases that multiply": ("aliases followed", text(STUDY + _bomb())),
        "an alias in its anchor": ("an alias inside its own anchor", text(STUDY + "a: &a [*a]\n")),
        "an alias of nothing": (
            "expected YAML, found: found undefined alias",
            text(STUDY + "a: *b\n"),
        ),
        "a tag of Python": (
            "expected YAML, found: could not determine",
            text(STUDY + "title: !!python/object/apply:os.system [id]\n"),
        ),
        "a tag that does not fit": (
            "its tag does not fit|expected YAML",
            text(STUDY + "seed: !!int x\n"),
        ),
        "binary as text": ("expected YAML|title", text(STUDY + "title: !!binary aGVsbG8=\n")),
        "a set": ("expected YAML|settings", text(STUDY + "settings: !!set {A, B}\n")),
        "a list as a key": ("expected YAML", text(STUDY + "? [a]\n: b\n")),
        "a merge of nothing": ("expected YAML", text(STUDY + "price:\n  <<: 5\n")),
        "a NUL": ("a NUL byte, which no text has", text(STUDY + "title: a\0b\n")),
        "an escaped NUL": (
            "the character U.0000 in a text",
            text(STUDY + 'settings: {A: "a\\x00"}\n'),
        ),
        "an escape of terminals": (
            "the character U.001B in a text",
            text(STUDY + 'title: "\\e[31m"\n'),
        ),
        "half a character": ("the character U.D83D in a text", text(STUDY + 'title: "\\ud83d"\n')),
        "Latin-1": (
            "bad.yaml:4: .*?not UTF-8 text",
            text((STUDY + "title: caf\xe9\n").encode("latin-1")),
        ),
        "UTF-16": ("not UTF-8 text but UTF-16", text(STUDY.encode("utf-16"))),
        "binary": ("expected a study file of UTF-8 text|expected YAML", text(bytes(range(256)))),
        "2 MiB": ("more than 1 MiB", text("#" * (2 << 20))),
        "a pipe": ("found a pipe", pipe),
        "a device": ("found a device", endless),
        "a directory": (
            "found a directory",
            lambda root: ["plan", _directory(root), "--root", root],
        ),
        "nowhere": ("No such file", lambda root: ["plan", root / "no.yaml", "--root", root]),
        "a name of 300 letters": (
            "File name too long",
            lambda root: ["plan", root / f"{'x' * 300}.yaml", "--root", root],
        ),
        "an unknown key": (
            "unknown key 'trails'; did you mean 'trials'",
            text(STUDY + "trails: 2\n"),
        ),
        "an unknown engine": (
            "alpah: no engine of this name",
            lambda root: _run(root, HEAD.replace("alpha", "alpah") + LOADS),
        ),
        "a name that leads out": (
            "name: string should match pattern",
            text(STUDY.replace("name: a", "name: ../../a")),
        ),
        "a long name": (
            "at most 100 characters",
            text(STUDY.replace("name: a", f"name: {'a' * 300}")),
        ),
    }
    return [Case("study file", name, named, make) for name, (named, make) in found.items()]


def _bomb() -> str:
    lines = ["a: &a [x, x, x, x, x, x, x, x, x, x]"]
    lines += [
        f"{b}: &{b} [{', '.join([f'*{a}'] * 10)}]"
        for a, b in zip("abcdefgh", "bcdefghi", strict=True)
    ]
    return "\n".join(lines) + "\n"


def _directory(root: Path) -> Path:
    (root / "studies" / "bad.yaml").mkdir()
    return root / "studies" / "bad.yaml"


def _run(root: Path, content: str) -> list[object]:
    """A study that has to be run to be refused."""
    (root / "studies" / "bad.yaml").write_text(content)
    return ["study", root / "studies" / "bad.yaml", "--root", root]


def good(**changes: Any) -> Callable[[Path], list[object]]:
    """A study with these changes, to be run."""
    return lambda root: [
        "study",
        write_study(root, study({"engine": "alpha"}, **changes)),
        "--root",
        root,
    ]


def launch_files() -> list[Case]:
    bare = "services: {alpha: {image: x}}\n"

    def file(content: str | bytes) -> Make:
        def make(root: Path) -> list[object]:
            data = content.encode() if isinstance(content, str) else content
            (root / "alpha" / "launch.yaml").write_bytes(data)
            return good()(root)

        return make

    def fifo(root: Path) -> list[object]:
        (root / "alpha" / "launch.yaml").unlink()
        os.mkfifo(root / "alpha" / "launch.yaml")
        return good()(root)

    def engine(code: str) -> Make:
        def make(root: Path) -> list[object]:
            (root / "alpha" / "engine.py").write_text(code)
            return good()(root)

        return make

    def form(flag: str) -> Make:
        def make(root: Path) -> list[object]:
            path = root / "alpha" / "launch.yaml"
            data = yaml.safe_load(path.read_text())
            data["services"]["alpha"]["command"].append(flag)
            path.write_text(yaml.safe_dump(data))
            return good()(root)

        return make

    unknown = "expected variables as .*? not inside each other"
    found: dict[str, tuple[str, Make]] = {
        "empty": ("expected a compose file with one service", file("")),
        "no services": ("found no mapping under the key services", file("image: x\n")),
        "two services": ("found 2 services", file("services: {a: {}, b: {}}\n")),
        "a service twice": (
            "expected plain YAML, found the key",
            file("services: {a: {image: x}, a: {image: y}}\n"),
        ),
        "a command that is a mapping": (
            "found command: a dict",
            file("services: {alpha: {command: {a: b}}}\n"),
        ),
        "an odd environment": (
            "environment.A: a list in place of a text",
            file("services: {alpha: {environment: {A: [1]}}}\n"),
        ),
        "x-native of another form": ("x-native: ", file(f"{bare}x-native: 5\n")),
        "20,000 levels": ("more than 50 levels", file(f"{bare}x-a: {'[' * 20_000}")),
        "a NUL": ("a NUL byte", file(f"{bare}x-a: a\0b\n")),
        "binary": ("launch.yaml", file(bytes(range(256)))),
        "a pipe": ("found a pipe", fifo),
        "a nested variable": (unknown, form("--a=${A:-${B}}")),
        "another form of variable": (unknown, form("--a=${A:+on}")),
        "a quote that never closes": (
            "No closing quotation",
            file("services: {alpha: {command: 'a \"b'}}\n"),
        ),
        "an engine.py that fails": (
            "engine.py:1: expected a file that can be imported",
            engine("1/0\n"),
        ),
        "an engine.py that is none": ("expected a constant DIALECT", engine("DIALECT = 5\n")),
        "an engine.py that is binary": (
            "engine.py.*?expected a file that can be imported",
            engine("a\0b"),
        ),
        "an engine.py that never ends well": (
            "found RecursionError",
            engine("def f(): f()\nf()\n"),
        ),
    }
    return [Case("launch file", name, named, make) for name, (named, make) in found.items()]


def prompt_files() -> list[Case]:
    def file(name: str, content: str | bytes) -> Make:
        def make(root: Path) -> list[object]:
            data = content.encode() if isinstance(content, str) else content
            (root / name).write_bytes(data)
            return good(prompts={"path": name})(root)

        return make

    def fifo(root: Path) -> list[object]:
        os.mkfifo(root / "p.jsonl")
        return good(prompts={"path": "p.jsonl"})(root)

    found: dict[str, tuple[str, Make]] = {
        "empty": ("expected at least one prompt", file("p.txt", "")),
        "an object of another form": (
            "line 1: the keys 'role', 'content'",
            file("p.jsonl", '{"role": "user", "content": "x"}'),
        ),
        "messages": ("the keys 'messages'", file("p.json", '[{"messages": [{"role": "user"}]}]')),
        "a line that is cut": ("line 2: ", file("p.jsonl", '{"prompt": "x"}\n{"prompt": "y')),
        "100,000 levels": ("line 1: |recursion", file("p.jsonl", '{"prompt": ' + "[" * 100_000)),
        "a prompt that is a number": ("'prompt' is int 5", file("p.jsonl", '{"prompt": 5}')),
        "only nulls": ("expected at least one prompt", file("p.jsonl", '{"prompt": null}\n' * 3)),
        "a turn that is text": ("turn 1: str", file("p.json", '[{"conversations": ["x"]}]')),
        "a NUL": ("p.txt:1: .*?a NUL byte", file("p.txt", b"a\0b")),
        "UTF-16": ("not UTF-8 text but UTF-16", file("p.txt", "one".encode("utf-16"))),
        "Latin-1": ("not UTF-8 text .byte 0xe9", file("p.txt", b"caf\xe9")),
        "a Git LFS pointer": (
            "a Git LFS pointer instead of the file",
            file("p.jsonl", "version https://git-lfs.github.com/spec/v1\noid x\n"),
        ),
        "a pipe": ("a pipe", fifo),
        "a directory": ("a directory", good(prompts={"path": "studies"})),
        "a device": ("a device", good(prompts={"path": "/dev/zero"})),
        "nowhere": ("No such file", good(prompts={"path": "no.txt"})),
        "a path with a NUL": (
            "U.0000|embedded null",
            lambda root: _run(root, STUDY + 'prompts: {path: "a\\0b"}\n'),
        ),
        "prompts of one word": (
            "different prompts of exactly 24 tokens|report: ",
            file("p.txt", "a"),
        ),
    }
    return [
        Case("prompt file", name, named, make, 0 if name == "prompts of one word" else 2)
        for name, (named, make) in found.items()
    ]


TRACE = "time_s,prompt_tokens,output_tokens\n"


def traces() -> list[Case]:
    load = {"name": "w", "prompt_tokens": 24, "output_tokens": 4, "rate": [5], "arrivals": "trace"}

    def file(content: str | bytes) -> Make:
        def make(root: Path) -> list[object]:
            data = content.encode() if isinstance(content, str) else content
            (root / "t.csv").write_bytes(data)
            return good(workloads=[load | {"trace": "t.csv", "duration_s": 1}])(root)

        return make

    def fifo(root: Path) -> list[object]:
        os.mkfifo(root / "t.csv")
        return good(workloads=[load | {"trace": "t.csv", "duration_s": 1}])(root)

    found: dict[str, tuple[str, Make]] = {
        "empty": ("found no time_s", file("")),
        "NaN as a time": ("t.csv:3: .*?the time nan", file(TRACE + "0,1,1\nnan,1,1\n")),
        "infinity as a time": ("t.csv:2: .*?the time inf", file(TRACE + "inf,1,1\n")),
        "1e300 as a time": ("the time 1e300", file(TRACE + "1e300,1,1\n")),
        "times that fall": ("found 1 after 2", file(TRACE + "2,1,1\n1,1,1\n")),
        "no tokens": ("lengths are from 1 to", file(TRACE + "1,0,2\n")),
        "a billion billion tokens": ("lengths are from 1 to", file(TRACE + f"1,{10**18},2\n")),
        "a field of 200 kB": ("t.csv:2: .*?field", file(TRACE + f"0,1,{'1' * 200_000}\n")),
        "a NUL": ("NUL", file(TRACE + "1,1,\0\n")),
        "a column twice": ("found 2 times time_s", file("time_s," + TRACE + "0,1,1,1\n")),
        "one request": ("found 1 requests", file(TRACE + "0,1,1\n")),
        "binary": ("t.csv", file(bytes(range(256)))),
        "a pipe": ("a pipe", fifo),
    }
    return [Case("trace", name, named, make) for name, (named, make) in found.items()]


def models() -> list[Case]:
    pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 5\n"
    config = json.dumps({"model_type": "llama", "max_position_embeddings": 32})
    one = json.dumps({"a": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}).encode()
    weights = len(one).to_bytes(8, "little") + one + bytes(4)

    def directory(files: Mapping[str, str | bytes | None]) -> Make:
        def make(root: Path) -> list[object]:
            (root / "m").mkdir()
            for name, content in {"config.json": config, **files}.items():
                if content is None:
                    os.mkfifo(root / "m" / name)
                else:
                    data = content.encode() if isinstance(content, str) else content
                    (root / "m" / name).write_bytes(data)
            return good(model=str(root / "m"))(root)

        return make

    index = "model.safetensors.index.json"
    found: dict[str, tuple[str, Make]] = {
        "nowhere": ("expected 'embedded'", good(model="./no/such/model")),
        "no config.json": ("expected a model directory with config.json", _empty_model),
        "a config that is a list": ("expected a JSON object", directory({"config.json": "[]"})),
        "a config of 100,000 levels": ("expected JSON", directory({"config.json": "[" * 100_000})),
        "a config that is cut": ("expected JSON", directory({"config.json": "{"})),
        "weights that are a pointer": (
            "a pointer of Git LFS; run .git lfs pull",
            directory({"model.safetensors": pointer}),
        ),
        "a tokenizer that is a pointer": (
            "a pointer of Git LFS",
            directory({"tokenizer.json": pointer}),
        ),
        "weights that are cut": (
            "the file is cut off",
            directory({"model.safetensors": weights[:-1]}),
        ),
        "weights that are empty": (
            "expected a safetensors file",
            directory({"model.safetensors": b""}),
        ),
        "a header of 2^63 bytes": (
            "expected a safetensors file",
            directory({"model.safetensors": b"\xff" * 7 + b"\x7f"}),
        ),
        "an index of nothing": ("expected an index of weights", directory({index: "{}"})),
        "an index that leads out": (
            "expected an index of weights",
            directory({index: '{"weight_map": {"a": "../../x.safetensors"}}'}),
        ),
        "an index of files that are gone": (
            "expected this file of weights, found none",
            directory({index: '{"weight_map": {"a": "gone.safetensors"}}'}),
        ),
        "no tokenizer": ("expected a tokenizer in tokenizer.json", directory({})),
        "a tokenizer of 100,000 levels": (
            "expected a tokenizer in tokenizer.json",
            directory({"tokenizer.json": "[" * 100_000}),
        ),
        "a tokenizer that is a pipe": (
            "expected a tokenizer in tokenizer.json|a pipe",
            directory({"tokenizer.json": None}),
        ),
        "a config that is a pipe": (
            "expected a model directory with config.json",
            directory({"config.json": None}),
        ),
    }
    return [Case("model", name, named, make) for name, (named, make) in found.items()]


def _empty_model(root: Path) -> list[object]:
    (root / "m").mkdir()
    return good(model=str(root / "m"))(root)


def tables() -> list[Case]:
    head = "model,gpu,batch,in,out,latency\n"

    def file(content: str | bytes) -> Make:
        def make(root: Path) -> list[object]:
            data = content.encode() if isinstance(content, str) else content
            (root / "t.csv").write_bytes(data)
            return ["check", root / "t.csv"]

        return make

    def shape(config: str) -> Make:
        def make(root: Path) -> list[object]:
            (root / "config.json").write_text(config)
            return ["kv", root / "config.json", "--gpu", "l4"]

        return make

    def fifo(root: Path) -> list[object]:
        os.mkfifo(root / "t.csv")
        return ["check", root / "t.csv"]

    row = "llama-2-7b,A100,{},128,128,{}\n"
    none = "0 impossible|not checked"
    found: dict[str, tuple[str, Make, int]] = {
        "NaN": (none, file(head + row.format(1, "nan")), 0),
        "infinity": (none, file(head + row.format("inf", 1)), 0),
        "400 digits": (none, file(head + row.format("9" * 400, 1)), 0),
        "a field of 2 MB": (none, file(head + row.format("1", "9" * 2_000_000)), 0),
        "a NUL": ("t.csv|not checked", file(head + "a\0b,A100,1,1,1,1\n"), 2),
        "binary": ("t.csv", file(bytes(range(256))), 2),
        "empty": ("t.csv", file(""), 2),
        "a pipe": ("pipe|t.csv", fifo, 2),
        "no shape": ("does not state model_type", shape("{}"), 2),
        "a shape of text": ("config.json", shape('{"model_type": "llama", "hidden_size": "x"}'), 2),
        "a shape of NaN": ("config.json", shape('{"model_type": "llama", "hidden_size": NaN}'), 2),
        "a shape of 10^30": (
            "config.json",
            shape('{"model_type": "llama", "hidden_size": 1e30}'),
            2,
        ),
        "a shape of 100,000 levels": ("config.json", shape("[" * 100_000), 2),
    }
    return [
        Case("table or shape", name, named, make, code)
        for name, (named, make, code) in found.items()
    ]


def jobs(cache: Path) -> list[Callable[[], list[Result]]]:
    cases = [*studies(), *launch_files(), *prompt_files(), *traces(), *models(), *tables()]

    def job(case: Case) -> list[Result]:
        with place() as root:
            make_project(root, "alpha")
            words = case.make(root)
            more = ["--cache", cache] if words[0] == "study" else []
            ended = run(root, [*words, *more])
            lines = [line for line in ended.said.splitlines() if line.startswith("enginebench: ")]
            fault = Fault(case.name, case.named, case.code)
            lost = int(case.code == 2 and len(lines) != 1)  # one line, and nothing else happens
            return [result(case.group, fault, ended, lost)]

    return [lambda case=case: job(case) for case in cases]
