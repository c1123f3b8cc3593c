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


@pytest.mark.parametrize(
    "name",
    [
        "KEY_PASSPHRASE", "AWS_CREDENTIALS", "A_CREDENTIAL", "GITHUB_PAT", "BASIC_AUTH",
        "PGPASSWORD", "MYSQL_PWD", "HFTOKEN", "SSHPASS", "API-KEY", "MySecret",
    ],
)  # fmt: skip
def test_a_name_that_marks_a_secret(name):
    assert redaction.is_secret_name(name)


@pytest.mark.parametrize(
    "name",
    ["PATH", "PWD", "OLDPWD", "MAX_NUM_BATCHED_TOKENS", "PATTERN", "AUTHOR", "KEYBOARD", "HOME"],
)
def test_a_name_that_marks_none(name):
    assert not redaction.is_secret_name(name)


def test_the_password_of_a_url_in_the_environment_is_a_secret():
    found = redaction.values(
        {
            "HTTPS_PROXY": "http://me:pass%20word@proxy:3128",
            "INDEX": "https://ghp_onlyuser@host/simple https://u:another@host",
            "BROKEN": "http://[::1@host",
            "MAIL": "somebody@host",
        }
    )
    assert set(found) == {"pass%20word", "pass word", "ghp_onlyuser", "another"}


def test_a_url_in_a_text_loses_its_userinfo():
    text = "pulling https://user:x@host/a and ssh://git@host/b, not http://host/c@d"
    assert (
        redaction.redact(text)
        == "pulling https://***@host/a and ssh://***@host/b, not http://host/c@d"
    )


def test_a_long_text_of_slashes_is_searched_in_linear_time():
    text = "://" * 200_000 + "://" + "a" * 200_000
    assert redaction.redact(text) == text


def test_the_keys_of_an_object_stay():
    assert redaction.redact_values({"hf_abcdef": ["hf_abcdef", 1]}) == {"hf_abcdef": ["***", 1]}
