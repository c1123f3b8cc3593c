"""The scripted server: what it sends is what its script says, and its own account is right."""

import json
import socket

import pytest

from enginebench.engines.openai_completions import read_completions_event
from enginebench.load import calibrate
from enginebench.load.script import Script, answer
from enginebench.load.sse import events

pytestmark = pytest.mark.serial  # times are measured


def ask(port, tokens, **more):
    """One request by hand: the whole answer until the server has sent its end."""
    body = json.dumps({"max_tokens": tokens, **more}).encode()
    head = b"POST /v1/completions HTTP/1.1\r\nX-Request-Id: me\r\nContent-Length: %d\r\n\r\n"
    with socket.create_connection(("127.0.0.1", port), 10) as connection:
        connection.sendall(head % len(body) + body)
        found = b""
        while not found.endswith(b"0\r\n\r\n"):
            found += connection.recv(65536)
    return found


def deltas(writes):
    raw = b"".join(writes).partition(b"\r\n\r\n")[2]
    return [read_completions_event(data) for _, data in events([(0.0, raw)])]


def test_an_answer_has_its_tokens_its_usage_and_its_end():
    found = deltas(answer(Script(framing="length"), 3))
    assert [delta.text for delta in found] == [" tok"] * 3 + [""]
    assert [delta.usage.output_tokens for delta in found[:3]] == [1, 2, 3]
    assert [delta.finish_reason for delta in found] == [None, None, "length", None]


def test_several_tokens_in_one_event_are_in_its_usage():
    found = deltas(answer(Script(framing="close", tokens_per_event=4), 10))
    assert [delta.usage.output_tokens for delta in found[:-1]] == [4, 8, 10]
    assert [delta.text.count("tok") for delta in found[:-1]] == [4, 4, 2]


@pytest.mark.parametrize("tokens_per_event", [1, 3, 8])
def test_each_write_is_one_event(tokens_per_event):
    writes = answer(Script(tokens_per_event=tokens_per_event), 8)
    assert len(writes) == -(-8 // tokens_per_event) + 1


def test_every_nth_request_has_the_fault():
    script = Script(every_cut=3, every_early=2)
    assert [script.fault(k) for k in range(6)] == [None, "early", "cut", "early", None, "cut"]


def test_a_script_goes_through_json():
    script = Script(first_s=0.5, freezes=((1.0, 2.0),), framing="close", every_cut=7)
    again = Script.from_json(script.to_json())
    assert (again.first_s, again.framing, again.every_cut) == (0.5, "close", 7)
    assert [tuple(freeze) for freeze in again.freezes] == [(1.0, 2.0)]


def test_its_account_has_every_token_due_at_its_pace_and_sent_no_earlier():
    script = Script(first_s=0.02, pace_s=0.005)
    with calibrate.serving(script) as server:
        ask(server.port, 5)
        ask(server.port, 3, pace_s=0.001)
        first, second = server.stop()
    assert first.request_id == "me"
    due = [time_s - first.arrived_s for time_s in first.due_s]
    assert due == pytest.approx([0.02, 0.025, 0.03, 0.035, 0.04])
    gaps = [b - a for a, b in zip(second.due_s, second.due_s[1:], strict=False)]
    assert gaps == pytest.approx([0.001] * 2)
    for account in (first, second):
        assert all(s >= d for s, d in zip(account.sent_s, account.due_s, strict=True))
        assert account.end_s >= account.sent_s[-1]


def test_stalls_and_freezes_are_in_what_was_due():
    script = Script(first_s=0.01, pace_s=0.2, stall_every=2, stall_s=0.05, freezes=[(0.1, 0.2)])
    with calibrate.serving(script) as server:
        ask(server.port, 4)
        (account,) = server.stop()
    due = [time_s - account.arrived_s for time_s in account.due_s]
    # The freeze, between the first token and the second, moves everything by 0.2 s.
    assert due == pytest.approx([0.01, 0.41, 0.66, 0.86], abs=1e-6)


def test_jitter_follows_from_the_seed_alone():
    dues = []
    for seed in (1, 1, 2):
        script = Script(first_s=0.001, pace_s=0.001, jitter_s=0.002, seed=seed)
        with calibrate.serving(script) as server:
            ask(server.port, 6)
            (account,) = server.stop()
        dues.append([round(time_s - account.due_s[0], 9) for time_s in account.due_s])
    assert dues[0] == pytest.approx(dues[1], abs=1e-6)
    assert dues[0] != pytest.approx(dues[2], abs=1e-6)
    assert all(b - a >= 0.001 for a, b in zip(dues[0], dues[0][1:], strict=False))


def test_what_is_not_a_completion_is_answered_too():
    with calibrate.serving(Script()) as server:
        for request, status in ((b"GET /health", b"200"), (b"GET /v1/models", b"200")):
            with socket.create_connection(("127.0.0.1", server.port), 10) as connection:
                connection.sendall(request + b" HTTP/1.1\r\n\r\n")
                assert connection.recv(100).startswith(b"HTTP/1.1 " + status)
