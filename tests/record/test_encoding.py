"""Secrets, numbers and characters that JSON cannot hold, and what writing a large cell takes."""

import json
import subprocess
import sys
from dataclasses import dataclass

import numpy as np
import pytest
from builders import request

from enginebench.base.errors import UserError
from enginebench.record import schema
from enginebench.record.encoding import Encoder
from enginebench.record.files import Writer

ORDINARY = ("default", "measured", "length", "warmup", "bfloat16", "refused")


def decoded(row, *secrets):
    return json.loads(Encoder(secrets).line(row, "here"))


@pytest.mark.parametrize(
    "secret", ["hf_private", 'with"quote', "back\\slash", "schlüssel", "\ud83d!!!!!"]
)
def test_a_secret_in_a_text_is_blanked_however_json_escapes_it(secret):
    row = decoded(request(text=f"so {secret} it", error=f"failed: {secret}"), secret)
    assert (row["text"], row["error"]) == ("so *** it", "failed: ***")


def test_a_secret_that_is_an_ordinary_word_leaves_names_and_phases_alone():
    row = request(
        request_id="default-measured-0", finish_reason="length", error_kind="refused",
        text="the default length is measured",
    )  # fmt: skip
    found = decoded(row, *ORDINARY)
    assert found.pop("text") == "the *** *** is ***"
    plain = decoded(row)
    plain.pop("text")
    assert found == plain
    assert list(found) == [name for name in decoded(row) if name != "text"]


def test_a_launch_keeps_its_names_and_loses_the_secrets_of_its_settings():
    facts = {
        "engine": "default",
        "variant": "default",
        "dtype": "bfloat16",
        "metrics": {"measured": ["default"]},
        "settings": {"name": "default", "DTYPE": "bfloat16"},
        "command": ["--dtype=bfloat16", "default"],
        "version": {"id": "default"},
        "failure": {"message": "default", "log_tail": ["measured"]},
    }
    assert decoded(facts, *ORDINARY) == {
        "engine": "default",
        "variant": "default",
        "dtype": "bfloat16",
        "metrics": {"measured": ["default"]},
        "settings": {"name": "***", "DTYPE": "***"},
        "command": ["--dtype=***", "***"],
        "version": {"id": "***"},
        "failure": {"message": "***", "log_tail": ["***"]},
    }


def test_a_plan_keeps_its_names():
    plan = {
        "plan": [{"id": "trial1_default", "label": "a/default", "cells": [{"id": "measured-c1"}]}]
    }
    assert decoded(plan, *ORDINARY) == plan


def test_a_password_in_a_url_is_blanked_whoever_knows_it():
    row = decoded(request(error="cannot reach https://user:p4ss@host/path?a@b or mail a@b.c"))
    assert row["error"] == "cannot reach https://***@host/path?a@b or mail a@b.c"


def test_a_number_is_never_blanked():
    row = request(output_tokens=131072, text="131072")
    assert decoded(row, "131072") == decoded(row) | {"text": "***"}


@pytest.mark.parametrize(
    ("row", "place"),
    [
        ({"t_s": float("nan")}, "t_s"),
        ({"a": [{"b": [1.0, float("inf")]}]}, r"a\[0\].b\[1\]"),
        (request(event_s=[1.0, float("-inf"), float("inf")]), r"event_s\[1\]"),
        (request(margins=[None, float("nan")]), r"margins\[1\]"),
        ({"x": np.float64("nan")}, "x"),
    ],
)
def test_a_number_that_json_has_not_is_refused_by_the_name_of_its_field(tmp_path, row, place):
    writer = Writer.create(tmp_path, "small")
    message = rf"rows\.jsonl, line 2: expected finite numbers, found NaN or infinity in {place};"
    with pytest.raises(UserError, match=message):
        writer.write_lines("rows.jsonl", [{"t_s": 1.0}, row])
    assert list(writer.directory.iterdir()) == []  # nothing half written


@pytest.mark.parametrize("value", [2**63, -(2**64), 2**70, 10**400, "\ud800", "a\ud83db", "\x00"])
def test_what_json_can_hold_comes_back(value):
    assert decoded({"text": value})["text"] == value


def test_numbers_of_numpy_are_written_as_numbers():
    assert decoded({"a": np.float64(0.5), "b": np.int64(3), "c": np.float32(0.5)}) == {
        "a": 0.5, "b": 3, "c": 0.5,
    }  # fmt: skip


@dataclass(frozen=True, slots=True)
class Row:
    late_s: float
    inner: dict


def test_a_dataclass_is_written_in_the_order_of_its_fields():
    line = Encoder(["secret"]).line(Row(0.5, {"error": "no secret"}), "here")
    assert line == b'{"late_s":0.5,"inner":{"error":"no ***"}}\n'


WRITE = """
import resource, sys
from pathlib import Path
from enginebench.load.request_record import RequestRecord
from enginebench.record.files import Writer

def rows(count):
    for index in range(count):
        times = [index + 0.01 * token for token in range(20)]
        yield RequestRecord(
            index, "measured", f"{index}", "0" * 64, 8, 20, times[0], times[0], times[0],
            times, [1] * 20, [4] * 20, times[-1], "word" * 20,
        )

writer = Writer(Path(sys.argv[1]))
writer.write_lines("warm.jsonl", rows(100))
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
writer.write_lines("requests.jsonl", rows(int(sys.argv[2])))
writer.write_lines("agreement.jsonl.gz", rows(2000), compress=True)
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024)
"""


def test_rows_are_written_as_a_stream(tmp_path):
    rows = 50_000
    done = subprocess.run(
        [sys.executable, "-c", WRITE, str(tmp_path), str(rows)],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    size = (tmp_path / "requests.jsonl").stat().st_size
    assert size > 30 << 20  # 50,000 rows of some 830 bytes
    assert int(done.stdout) < size / 4


def test_types_inside_a_free_object_are_written_as_their_fields(tmp_path):
    writer = Writer.create(tmp_path, "small")
    cost = schema.PulseCost(interval_s=1.0, beats=2, missed=0)
    writer.write_json("cell.json", {"watching": {"scraping": cost}})
    written = json.loads((writer.directory / "cell.json").read_text())
    assert written["watching"]["scraping"]["beats"] == 2


def test_a_field_that_is_not_set_is_absent_from_a_document():
    launch = schema.Launch(
        engine="a", variant="b", trial=1, settings={}, command=[], env={}
    )  # the harness was cut off: nothing is known of a failure
    assert "failure" not in json.loads(Encoder(()).document(launch, "here"))
