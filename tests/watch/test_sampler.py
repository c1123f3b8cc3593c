import os
import subprocess
import sys
import time

import pytest

from enginebench.watch.processes import family, process_sample
from enginebench.watch.pulse import Pulse

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
