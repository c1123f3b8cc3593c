import pytest

from enginebench.base import redaction


@pytest.fixture(autouse=True)
def only_these(monkeypatch):
    for name in list(redaction.os.environ):
        if any(word in name.upper() for word in redaction.SECRET_WORDS):
            monkeypatch.delenv(name)
    monkeypatch.setenv("HF_TOKEN", "hf_abcdef")


def test_values_are_found_by_the_names_of_their_variables(monkeypatch):
    monkeypatch.setenv("api_key", "0123456789")
    monkeypatch.setenv("HOME_TOWN", "not a secret")
    assert redaction.values() == ["0123456789", "hf_abcdef"]


def test_a_short_value_would_blank_out_ordinary_text(monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "short")
    assert redaction.redact("a short text") == "a short text"


def test_a_secret_inside_another_leaves_no_rest(monkeypatch):
    monkeypatch.setenv("OTHER_TOKEN", "hf_abcdef-and-more")
    assert redaction.redact("x hf_abcdef-and-more y hf_abcdef z") == "x *** y *** z"


def test_a_log_is_redacted_and_keeps_its_other_bytes(tmp_path):
    log = tmp_path / "server.log"
    log.write_bytes(b"\xff token=hf_abcdef \xc3\xa9\n")
    redaction.redact_file(log)
    assert log.read_bytes() == b"\xff token=*** \xc3\xa9\n"


def test_a_file_without_a_secret_is_left_untouched(tmp_path):
    log = tmp_path / "server.log"
    log.write_bytes(b"progress\r 10 %\r\n")
    redaction.redact_file(log)
    assert log.read_bytes() == b"progress\r 10 %\r\n"


def test_a_log_that_is_not_there_is_no_error(tmp_path):
    redaction.redact_file(tmp_path / "gone.log")
