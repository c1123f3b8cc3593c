"""Names of signals, and the limit of open files."""

import resource
import signal

import pytest

from enginebench.base import linux
from enginebench.base.errors import UserError


@pytest.mark.parametrize(
    ("number", "name"),
    [
        (9, "SIGKILL"),
        (signal.SIGRTMIN, "SIGRTMIN"),
        (signal.SIGRTMIN + 3, "SIGRTMIN+3"),
        (signal.SIGRTMAX, "SIGRTMAX"),
        (99, "signal 99"),
    ],
)
def test_every_signal_has_a_name_real_time_ones_too(number, name):
    assert linux.signal_name(number) == name


@pytest.fixture
def limits(monkeypatch):
    """Limits that are only a list: soft, hard."""
    found = [1024, 20_000]
    monkeypatch.setattr(resource, "getrlimit", lambda _: tuple(found))
    monkeypatch.setattr(resource, "setrlimit", lambda _, pair: found.__setitem__(slice(2), pair))
    return found


def test_the_soft_limit_of_open_files_is_raised_to_what_is_needed(limits):
    linux.allow_open_files(1400, "1200 requests in flight")
    assert limits == [1400, 20_000]
    linux.allow_open_files(300, "100 requests in flight")  # it is never lowered
    assert limits == [1400, 20_000]


def test_more_open_files_than_the_hard_limit_allows_are_refused_in_one_line(limits):
    with pytest.raises(UserError) as refused:
        linux.allow_open_files(30_000, "29800 requests in flight")
    assert refused.value.message.startswith(
        "open files: expected a limit of at least 30000 for 29800 requests in flight, found a hard "
        "limit of 20000; raise it"
    )
    assert limits == [1024, 20_000]
