import os
import subprocess
import sys
import time

import pytest

from enginebench.watch import sampler
from enginebench.watch.processes import family, process_sample
from enginebench.watch.pulse import Pulse
from enginebench.watch.scrape import Scrape

pytestmark = pytest.mark.serial  # times are measured


def test_beats_that_pass_while_one_is_done_are_left_out_and_counted():
    seen = []

    def do():
        seen.append(time.perf_counter())
        if len(seen) == 2:  # the first of the thread
            time.sleep(0.055)

    pulse = Pulse(do, 0.01)
    pulse.start()
    time.sleep(0.15)
    pulse.stop()
    cost = pulse.cost()
    assert cost.missed >= 5
    assert cost.beats == len(seen) - 2  # the two ends are not the thread's
    # What passed is not made up for, which would be beats in quick succession.
    assert cost.beats + cost.missed <= (seen[-1] - seen[0]) / 0.01 + 1
    assert cost.took_s >= 0.055
    assert 0 <= cost.late_s_mean <= cost.late_s_max


def test_a_pulse_that_never_beat_has_no_lateness():
    pulse = Pulse(lambda: None, 60)
    pulse.start()
    pulse.stop()
    cost = pulse.cost()
    assert (cost.beats, cost.missed) == (0, 0)
    assert (cost.late_s_mean, cost.late_s_max) == (None, None)


def test_pss_is_read_where_asked_and_a_process_that_is_gone_is_none():
    ours = family(os.getpid())
    quick, full = (process_sample(ours, with_pss=with_pss) for with_pss in (False, True))
    assert quick.pss_bytes is None
    assert 0 < full.pss_bytes <= full.rss_bytes
    assert os.getpid() in quick.pids
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        gone = family(process.pid)
    sample = process_sample(gone, with_pss=True)
    assert (sample.pss_bytes, sample.rss_bytes, sample.cpu_s) == (None, None, None)
    assert sample.pids == family(process.pid) == []


PAGE = Scrape(t_s=0.0, took_s=0.0, status=200, text="run 1\n" * 1000, error=None)


@pytest.fixture
def watcher(monkeypatch):
    """Reads a page of 6 kB, and may keep 20 kB of such pages."""
    monkeypatch.setattr(sampler, "scrape", lambda url: PAGE)
    monkeypatch.setattr(sampler, "MOST_PAGES_BYTES", 20_000)
    return lambda **more: sampler.Watcher("http://127.0.0.1:1/", None, 60, 60, (), **more)


def test_pages_of_a_cell_beyond_the_limit_are_said_to_be_and_not_held(watcher):
    watch = watcher()
    for _ in range(5):
        watch._scrape()
    kept = [(scrape.text is not None, scrape.error) for scrape in watch.watched.scrapes]
    assert kept[:3] == [(True, None)] * 3
    assert kept[3:] == [(False, "TooLarge: more than 0 MiB of pages in this cell")] * 2


def test_a_display_that_fails_is_left_alone_and_the_reading_goes_on(watcher, capsys):
    shown = []

    def fail(scrape):
        shown.append(scrape)
        raise IndexError("odd\nline")

    watch = watcher(on_scrape=fail)
    for _ in range(2):
        watch._scrape()
    assert (len(shown), len(watch.watched.scrapes)) == (1, 2)
    said = capsys.readouterr().err
    assert said == "the live view of the engine has ended (IndexError: odd line)\n"


def test_a_beat_for_which_there_is_no_memory_is_missing():
    def do():
        raise MemoryError

    pulse = Pulse(do, 60)
    pulse.start()
    pulse.stop()
    assert pulse.cost().beats == 0
