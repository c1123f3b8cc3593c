import json
import os

import pytest
from project import ROOT

from enginebench.base.errors import UserError
from enginebench.plan import prompt_files


def write(path, value):
    path.write_text(value if isinstance(value, str) else json.dumps(value), encoding="utf-8")
    return path


CHAT = [
    {"conversations": [{"from": "system", "value": "s"}, {"from": "human", "value": "one"}]},
    {"conversations": [{"from": "user", "value": "two"}, {"from": "human", "value": "late"}]},
    {"conversations": [{"from": "gpt", "value": "nobody asked"}]},
]
SAMSUM = [{"dialogue": "A: one", "summary": "x"}, {"dialogue": "B: two", "summary": "y"}]
SUMMARIZE = ["Summarize this dialogue:\n\nA: one", "Summarize this dialogue:\n\nB: two"]
JSONL = '{"prompt": "one", "text": "no"}\n\n{"text": "two"}\n'


@pytest.mark.parametrize(
    ("name", "fmt", "content", "found"),
    [
        ("p.txt", "blocks", "# note\n%% chat\none\nmore\n\n%% code\n two \n", ["one\nmore", "two"]),
        ("p.txt", "lines", "one\n\n  two \n", ["one", "two"]),
        ("p.jsonl", "jsonl", JSONL, ["one", "two"]),
        ("p.json", "jsonl", [{"prompt": "one"}, {"text": "two"}], ["one", "two"]),
        ("p.json", "sharegpt", CHAT, ["one", "two"]),
        ("p.json", "dialogues", SAMSUM, SUMMARIZE),
        ("p.jsonl", "dialogues", "\n".join(map(json.dumps, SAMSUM)), SUMMARIZE),
    ],
)
def test_each_format_is_read_by_name_and_by_guess(tmp_path, name, fmt, content, found):
    path = write(tmp_path / name, content)
    assert list(prompt_files.read(path, fmt).texts) == found
    assert list(prompt_files.read(path).texts) == found


@pytest.mark.parametrize("separator", ["\u2028", "\x85"])
def test_a_line_separator_inside_a_json_string_ends_no_line(tmp_path, separator):
    text = json.dumps({"prompt": f"a{separator}b"}, ensure_ascii=False)
    assert prompt_files.read(write(tmp_path / "p.jsonl", text)).texts == (f"a{separator}b",)


@pytest.mark.parametrize(
    ("name", "fmt", "content", "says"),
    [
        ("p.txt", "auto", "", "expected at least one prompt in the format 'lines'"),
        ("p.txt", "auto", " \n\n", "expected at least one prompt"),
        (
            "p.txt",
            "auto",
            "# only a comment\n",
            "expected at least one prompt in the format 'blocks'",
        ),
        ("p.json", "auto", "[]", "expected at least one prompt in the format 'sharegpt'"),
        ("p.txt", "jsonl", "plain words", "expected prompts in the format 'jsonl'"),
        ("p.json", "sharegpt", [{"prompt": "x"}], "expected prompts in the format 'sharegpt'"),
        ("p.json", "dialogues", [5], "expected prompts in the format 'dialogues'"),
        ("p.jsonl", "jsonl", '{"prompt": 5}', "expected prompts in the format 'jsonl'"),
    ],
)
def test_a_file_without_prompts_is_refused(tmp_path, name, fmt, content, says):
    path = write(tmp_path / name, content)
    with pytest.raises(UserError) as caught:
        prompt_files.read(path, fmt)
    assert caught.value.message.startswith(f"{path}: {says}")


def test_a_file_that_cannot_be_read_is_named(tmp_path):
    with pytest.raises(UserError, match=r"gone\.txt: .*No such file"):
        prompt_files.read(tmp_path / "gone.txt")
    (tmp_path / "latin.txt").write_bytes(b"caf\xe9")
    with pytest.raises(UserError, match=r"latin\.txt:1: .*not UTF-8 text"):
        prompt_files.read(tmp_path / "latin.txt")


def test_the_prompts_of_this_repository_are_many_and_all_different():
    found = prompt_files.read(ROOT / "prompts.txt").texts
    assert len(found) >= 128
    assert len(set(found)) == len(found)
    assert not any(prompt.startswith(("#", "%%")) for prompt in found)


GOOD = {"conversations": [{"from": "human", "value": "good"}]}


@pytest.mark.parametrize(
    "odd",
    [
        {"conversations": [{"from": "human", "value": None}, {"from": "gpt", "value": "yes"}]},
        {"conversations": [{"from": "gpt", "value": "nobody asked"}]},
        {"conversations": []},
        {"conversations": None},
        {"conversations": [None]},
        {"conversations": [{"from": "human", "value": "  "}]},
        None,
    ],
)
def test_a_conversation_without_a_prompt_is_left_out_and_counted(tmp_path, odd):
    found = prompt_files.read(write(tmp_path / "p.json", [odd, GOOD]))
    assert (found.texts, found.left_out) == (("good",), 1)


@pytest.mark.parametrize("odd", ['{"prompt": null}', '{"text": ""}', '{"prompt": " \\n"}', "null"])
def test_a_line_without_a_prompt_is_left_out_and_counted(tmp_path, odd):
    found = prompt_files.read(write(tmp_path / "p.jsonl", f'{odd}\n\n{{"prompt": "good"}}\n'))
    assert (found.texts, found.left_out) == (("good",), 1)
    lines = prompt_files.read(write(tmp_path / "p.txt", "one\n\n\ntwo"))
    assert (lines.texts, lines.left_out) == (("one", "two"), 0)  # an empty line is no entry


@pytest.mark.parametrize(
    ("name", "content", "found"),
    [
        (
            "p.json",
            [GOOD, {"conversations": [{"role": "user", "content": "x"}]}],
            "entry 2: turn 1: the keys 'role', 'content'; wanted: 'from'",
        ),
        (
            "p.jsonl",
            '{"messages": [{"role": "user", "content": "x"}]}',
            "line 1: the keys 'messages'; wanted: 'prompt' or 'text'",
        ),
        (
            "p.jsonl",
            '{"prompt": "x"}\n\n{"instruction": "x", "output": "y"}',
            "line 3: the keys 'instruction', 'output'; wanted: 'prompt' or 'text'",
        ),
        ("p.json", [GOOD, [GOOD]], "entry 2: list "),
        ("p.json", [{"conversations": {"a": 1}}], "entry 1: 'conversations' is dict"),
        ("p.json", [{"conversations": ["x"]}], "entry 1: turn 1: str 'x'; wanted: an object with"),
        (
            "p.json",
            [{"conversations": [{"from": "human", "value": ["x"]}]}],
            "entry 1: turn 1: 'value' is list ['x']; wanted: a text",
        ),
        ("p.jsonl", '{"prompt": "x"}\n{"prompt": "y"', "line 2: Expecting ',' delimiter"),
        ("p.jsonl", '{"prompt": ' + "[" * 100_000, "line 1: "),
        ("p.json", "[" * 100_000, "maximum recursion depth"),
        ("p.jsonl", "{}", "line 1: the keys none; wanted"),
    ],
)
def test_an_entry_of_another_form_is_named_with_its_keys(tmp_path, name, content, found):
    path = write(tmp_path / name, content)
    with pytest.raises(UserError) as caught:
        prompt_files.read(path)
    assert caught.value.message.startswith(f"{path}: expected prompts in the format ")
    assert found in caught.value.message
    assert "\n" not in caught.value.message


@pytest.mark.parametrize(
    ("name", "text", "found"),
    [
        ("p.jsonl", '\ufeff{"prompt": "one"}', "one"),
        ("p.txt", "\ufeffone", "one"),
        ("p.txt", "%% chat\r\none\r\nmore\r\n", "one\nmore"),
        ("p.txt", "one\u2028still one", "one\u2028still one"),
        # The keys of the first entry say what a file is, not a word in it.
        ("p.jsonl", '{"category": "dialogue", "prompt": "one"}', "one"),
        ("p.json", '[{"category": "dialogue", "text": "one"}]', "one"),
        ("P.JSONL", '{"prompt": "one"}', "one"),
        ("p.jsonl", '{"conversations": [{"from": "human", "value": "one"}]}', "one"),
        ("p.jsonl", '{"prompt": "a \\ud83d b"}', "a \ufffd b"),
        ("p.jsonl", '{"prompt": "\\ud83d\\ude00"}', "😀"),
        ("p.jsonl", '{"prompt": "a \\u0000 b"}', "a \0 b"),
        ("p.jsonl", '{"prompt": "one", "score": NaN}', "one"),
    ],
)
def test_files_as_other_programs_write_them_are_read(tmp_path, name, text, found):
    (tmp_path / name).write_bytes(text.encode())
    assert prompt_files.read(tmp_path / name).texts == (found,)


def test_what_is_no_text_file_is_refused_and_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "nul.txt").write_bytes(b"one\nt\0wo")
    (tmp_path / "wide.txt").write_bytes("one".encode("utf-16"))
    (tmp_path / "lfs.jsonl").write_text(
        "version https://git-lfs.github.com/spec/v1\noid sha256:1\n"
    )
    for name, reason in (
        ("pipe", r"pipe: .*\(a pipe\)"),
        (".", r"\(a directory\)"),
        ("nul.txt", r"nul\.txt:2: .*a NUL byte"),
        ("wide.txt", "not UTF-8 text but UTF-16"),
        ("lfs.jsonl", "a Git LFS pointer instead of the file; run: git lfs pull"),
        ("a\0b", "embedded null byte"),
        ("a" * 300, "File name too long"),
    ):
        with pytest.raises(UserError, match=reason):
            prompt_files.read(tmp_path / name)
