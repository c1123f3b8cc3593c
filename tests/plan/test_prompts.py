import hashlib
import json

import pytest
from project import ROOT
from tokenizers import Tokenizer
from tokenizers.processors import TemplateProcessing

from enginebench.base.errors import UserError
from enginebench.plan import prompts


@pytest.fixture(scope="module")
def tokenizer(embedded_model):
    return prompts.load_tokenizer(embedded_model)


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
    assert prompts.read_sources(path, fmt) == found
    if (name, fmt) != ("p.json", "jsonl"):  # a JSON list is taken for conversations
        assert prompts.read_sources(path) == found


@pytest.mark.parametrize("separator", ["\u2028", "\x85"])
def test_a_line_separator_inside_a_json_string_ends_no_line(tmp_path, separator):
    text = json.dumps({"prompt": f"a{separator}b"}, ensure_ascii=False)
    assert prompts.read_sources(write(tmp_path / "p.jsonl", text)) == [f"a{separator}b"]


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
        prompts.read_sources(path, fmt)
    assert caught.value.message.startswith(f"{path}: {says}")


def test_a_file_that_cannot_be_read_is_named(tmp_path):
    with pytest.raises(UserError, match=r"gone\.txt: .*No such file"):
        prompts.read_sources(tmp_path / "gone.txt")
    (tmp_path / "latin.txt").write_bytes(b"caf\xe9")
    with pytest.raises(UserError, match=r"latin\.txt: .*not UTF-8 text"):
        prompts.read_sources(tmp_path / "latin.txt")


def test_the_prompts_of_this_repository_are_many_and_all_different():
    found = prompts.read_sources(ROOT / "prompts.txt")
    assert len(found) >= 128
    assert len(set(found)) == len(found)
    assert not any(prompt.startswith(("#", "%%")) for prompt in found)


@pytest.mark.parametrize("length", [16, 128, 1000])
def test_prompts_have_exactly_the_length_and_come_back_from_their_text(tokenizer, sources, length):
    for prompt in prompts.make_set(tokenizer, sources, length, 20, "a"):
        assert len(prompt.ids) == length
        assert tuple(tokenizer.encode(prompt.text, add_special_tokens=False).ids) == prompt.ids
        raw = b"".join(token.to_bytes(4, "little") for token in prompt.ids)
        assert prompt.sha256 == hashlib.sha256(raw).hexdigest()


def test_characters_of_several_bytes_are_not_cut_apart(tokenizer):
    for prompt in prompts.make_set(tokenizer, ["Grüße 你好 🙂 " * 9], 37, 20, "a"):
        assert len(prompt.ids) == 37
        assert "\ufffd" not in prompt.text
        assert tuple(tokenizer.encode(prompt.text, add_special_tokens=False).ids) == prompt.ids


def test_a_beginning_of_sequence_that_the_tokenizer_adds_counts_and_is_in_the_ids(
    tokenizer, sources
):
    with_bos = Tokenizer.from_str(tokenizer.to_str())
    bos = with_bos.token_to_id("<|begin|>")
    with_bos.post_processor = TemplateProcessing(
        single="<|begin|> $A", special_tokens=[("<|begin|>", bos)]
    )
    for prompt in prompts.make_set(with_bos, sources, 40, 10, "a"):
        assert len(prompt.ids) == 40
        assert prompt.ids[0] == bos and bos not in prompt.ids[1:]
        assert "<|begin|>" not in prompt.text  # an engine that is sent the text adds it
        assert tuple(with_bos.encode(prompt.text).ids) == prompt.ids


def test_the_same_seed_gives_the_same_prompts(tokenizer, sources):
    one, again = (prompts.make_set(tokenizer, sources, 32, 8, "a") for _ in range(2))
    assert one == again


def test_different_seeds_share_no_prompt(tokenizer, sources):
    one, other = (
        {prompt.ids for prompt in prompts.make_set(tokenizer, sources, 32, 8, seed)}
        for seed in ("a", "b")
    )
    assert not one & other


def test_no_two_prompts_share_a_first_block(tokenizer):
    made = prompts.make_set(tokenizer, ["the only source"], 64, 200, "a")
    assert len({prompt.ids[:16] for prompt in made}) == 200
    assert len({prompt.sha256 for prompt in made}) == 200


def test_more_prompts_than_can_differ_are_refused(tokenizer, sources):
    with pytest.raises(UserError, match="5000 different prompts of exactly 1 tokens"):
        prompts.make_set(tokenizer, sources, 1, 5000, "a")


def test_a_model_without_a_tokenizer_is_refused(tmp_path):
    with pytest.raises(UserError, match=r"tokenizer\.json: expected a tokenizer"):
        prompts.load_tokenizer(tmp_path)
