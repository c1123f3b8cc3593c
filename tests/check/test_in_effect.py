"""A variant that did not take effect, in words."""

from builders import launch

from enginebench.check import in_effect
from enginebench.record.schema import Resolved


def seen(holds):
    return Resolved(
        variant="bright", sets="LIGHT=on", expected="'light' in server.log", found="x", holds=holds
    )


def test_only_what_did_not_hold_is_a_finding_and_it_says_which_setting():
    (found,) = in_effect.findings(launch(resolved=[seen(True), seen(False)]))
    assert (found.check, found.verdict) == ("effect", "invalid")
    assert found.text == (
        "bright (LIGHT=on) did not take effect: expected 'light' in server.log, found x"
    )


def test_without_a_launch_or_a_promise_there_is_none():
    assert list(in_effect.findings(None)) == list(in_effect.findings(launch())) == []
