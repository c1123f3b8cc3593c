"""A log has no secret in it at any moment, and a bounded size."""

import os
import subprocess
import sys

import pytest

from enginebench.launch import log_file
from enginebench.launch.log_file import LogFile, Pump

SECRET = "hf_" + "x7Kq" * 6


@pytest.fixture(autouse=True)
def secret(monkeypatch):
    monkeypatch.setenv("HF_TOKEN", SECRET)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "server.log"


def test_a_line_is_redacted_before_it_is_written_and_other_bytes_stay(path):
    log = LogFile(path)
    log.write(b"\xff token=" + SECRET.encode() + b" \xc3\xa9\nmore\r\n")
    assert path.read_bytes() == b"\xff token=*** \xc3\xa9\nmore\r\n"
    assert path.stat().st_mode & 0o777 == 0o600


def test_a_secret_that_comes_in_two_pieces_is_never_on_disk(path):
    log = LogFile(path)
    log.write(b"ready\ntoken=" + SECRET[:10].encode())
    assert path.read_bytes() == b"ready\n"
    assert log.last_lines(9)[0] == "ready"
    log.write(SECRET[10:].encode() + b"\n")
    assert path.read_bytes() == b"ready\ntoken=***\n"


def test_a_secret_of_several_lines_is_blanked_line_by_line(path, monkeypatch):
    monkeypatch.setenv("SSH_KEY", "-----BEGIN KEY-----\nb3BlbnNzaC1r\n-----END KEY-----")
    log = LogFile(path)
    for line in (b"-----BEGIN KEY-----\n", b"b3BlbnNzaC1r\n"):
        log.write(line)
    assert path.read_bytes() == b"***\n***\n"


def test_secrets_of_the_engines_own_environment_are_blanked_too(path):
    log = LogFile(path, {"API_KEY": "of-the-engine"})
    log.write(b"of-the-engine\n")
    assert path.read_bytes() == b"***\n"


def test_the_home_directory_is_a_tilde_where_a_path_begins_with_it(path, monkeypatch):
    monkeypatch.setenv("HOME", "/home/ada")
    log = LogFile(path)
    log.write(b"--model=/home/ada/m file:///home/ada /home/adam /mnt/home/ada in /home/ada.\n")
    assert path.read_bytes() == b"--model=~/m file://~ /home/adam /mnt/home/ada in ~.\n"


def test_an_endless_line_is_written_in_pieces_and_a_secret_at_a_seam_is_blanked(path, monkeypatch):
    monkeypatch.setattr(log_file, "LONGEST_LINE_BYTES", 8192)
    log = LogFile(path)
    # 5,000 + 27 + 4,000 bytes: of 9,027 the last 4,096 are held back, with half of a secret.
    text = b"a" * 4920 + SECRET.encode() + b"b" * 4080
    log.write(text[:8193])
    log.write(text[8193:])
    log.close()
    assert SECRET.encode() not in path.read_bytes()
    assert path.read_bytes() == b"a" * 4920 + b"***" + b"b" * 4080


def test_of_a_long_log_the_beginning_and_the_end_are_kept_and_the_cut_is_noted(path):
    log = LogFile(path, head_bytes=20, tail_bytes=20)
    for number in range(100):
        log.write(b"line %04d\n" % number)  # 10 bytes each
    assert log.last_lines(2) == ["line 0098", "line 0099"]
    assert path.stat().st_size == 20
    log.close()
    # 1,000 bytes, of which 20 + 20 are kept.
    assert path.read_text().splitlines() == [
        "line 0000",
        "line 0001",
        "",
        "[enginebench: 960 bytes of the log were left out here]",
        "line 0098",
        "line 0099",
    ]


def test_the_last_lines_hold_an_unfinished_one(path):
    log = LogFile(path)
    log.write(b"one\ntwo\nthr")
    assert log.last_lines(2) == ["two", "thr"]
    log.close()
    assert path.read_text() == "one\ntwo\nthr"


def test_a_link_at_the_place_of_the_log_is_replaced_and_not_followed(path, tmp_path):
    target = tmp_path / "of somebody"
    target.write_text("theirs")
    path.symlink_to(target)
    LogFile(path).write(b"ours\n")
    assert (target.read_text(), path.read_text()) == ("theirs", "ours\n")


def test_what_a_process_printed_before_it_died_is_in_the_log(path):
    pump = Pump(LogFile(path))
    code = "import os; os.write(1, b'x' * 100_000 + b'\\nfatal\\n'); os._exit(3)"
    process = subprocess.Popen([sys.executable, "-c", code], stdout=pump.write_end)
    pump.start()
    process.wait()
    pump.settle()
    assert pump.log.last_lines(1) == ["fatal"]
    pump.finish()
    assert path.stat().st_size == 100_007


def test_a_process_that_outlives_its_log_cannot_hold_up_the_end(path, monkeypatch):
    monkeypatch.setattr(log_file, "SETTLE_S", 0.1)
    pump = Pump(LogFile(path))
    other_end = os.dup(pump.write_end)
    pump.start()
    os.write(other_end, b"before\n")
    pump.settle()
    pump.finish(0.1)
    os.write(other_end, b"after\n")
    os.close(other_end)
    assert path.read_text() == "before\n"
