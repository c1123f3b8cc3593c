"""An interrupt that Python would drop still stops the program."""

import subprocess
import sys

LANDS_IN_A_CALLBACK = """
import os, signal, sys, time
from enginebench.cli import app

class Dropped:
    def __del__(self):
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(0.01)  # the handler runs in here, where Python ignores what it raises

def command():
    Dropped()
    print("goes on", flush=True)
    time.sleep(30)

app.run_cli(command)
"""


def test_an_interrupt_that_lands_in_a_callback_ends_the_command_all_the_same():
    ended = subprocess.run(
        [sys.executable, "-c", LANDS_IN_A_CALLBACK], capture_output=True, text=True, timeout=20
    )
    assert ended.stdout == "goes on\n"
    assert ended.returncode == 130
    assert ended.stderr == ""


LANDS_AT_THE_END = """
import atexit, signal
from enginebench.cli import app

def command():
    raise KeyboardInterrupt

numbers = (signal.SIGINT, signal.SIGTERM)
atexit.register(lambda: print(*(signal.getsignal(number).name for number in numbers)))
app.run_cli(command)
"""


def test_a_second_interrupt_while_python_ends_changes_nothing():
    """Python gives a signal back its default only if it had a handler: ignored ones stay so."""
    ended = subprocess.run(
        [sys.executable, "-c", LANDS_AT_THE_END], capture_output=True, text=True, timeout=20
    )
    assert (ended.returncode, ended.stdout, ended.stderr) == (130, "SIG_IGN SIG_IGN\n", "")
