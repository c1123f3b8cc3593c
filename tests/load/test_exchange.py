"""What one request and its answer leave behind: stamps and bytes."""

import os
import tempfile
from array import array

import pytest

from enginebench.load.exchange import Spool, arrivals


def test_kernel_stamps_become_times_of_our_clock_and_missing_ones_the_time_of_reading():
    stamps = array("q", [100, 500_000_000, 0, 0]).tobytes()
    read_s = array("d", [3.0, 4.0])
    assert arrivals(stamps, read_s, -98_000_000_000) == (array("d", [2.5, 4.0]), 1)
    assert arrivals(stamps, read_s, None) == (read_s, 0)


def test_finished_responses_are_read_back_from_their_file():
    spool = Spool()
    kept = [spool.keep(bytearray(text)) for text in (b"first", b"", b"third")]
    assert [found.read() for found in kept] == [b"first", b"", b"third"]
    assert spool.path.stat().st_mode & 0o077 == 0
    other = Spool(spool.path)  # as another process opens it
    assert os.pread(other.fd, 5, 0) == b"first"
    other.close()
    spool.close()


@pytest.mark.parametrize("has_nameless", [True, False])
def test_a_spool_has_no_name_that_a_killed_process_could_leave(tmp_path, monkeypatch, has_nameless):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    if not has_nameless:
        monkeypatch.setattr(os, "O_TMPFILE", os.O_DIRECTORY)  # what an old kernel sees: EISDIR
    spool = Spool()
    assert spool.keep(bytearray(b"text")).read() == b"text"
    assert list(tmp_path.iterdir()) == []
    spool.close()
