import hashlib
import json
import os
from itertools import pairwise, takewhile

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer
from tokenizers.processors import TemplateProcessing

from enginebench.base.errors import UserError
from enginebench.metrics import prefix_cache
from enginebench.plan import prompts


@pytest.fixture(scope="module")
def tokenizer(embedded_model):
    return prompts.load_tokenizer(embedded_model)


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


def alike(one, other):
    """How many tokens two prompts begin with."""
    return len(list(takewhile(lambda pair: pair[0] == pair[1], zip(one, other, strict=True))))


def in_common(made):
    """The most tokens that two prompts begin with, and the fewest."""
    ids = sorted(prompt.ids for prompt in made)
    return max(alike(*pair) for pair in pairwise(ids)), alike(ids[0], ids[-1])


@given(
    lengths=st.tuples(st.integers(1, 300), st.integers(12, 200)),
    seed=st.text("abc", max_size=3),
    text=st.sampled_from([None, "Grüße 你好 🙂 ", "  a\n\n  b 1234567 ", "word"]),
)
@settings(max_examples=40)
def test_prompts_of_a_set_share_their_beginning_and_part_within_the_tag(
    tokenizer, sources, lengths, seed, text
):
    shared, own = lengths
    texts = sources if text is None else [text * 20]
    try:
        made = prompts.make_set(tokenizer, texts, shared + own, 12, seed, shared, "s")
    except UserError:  # a text of one line over and over may have no cut at that length
        assert text is not None
        return
    most, fewest = in_common(made)
    assert fewest >= shared and most < shared + prefix_cache.TAG_TOKENS
    for prompt in made:
        assert len(prompt.ids) == shared + own
        assert tuple(tokenizer.encode(prompt.text, add_special_tokens=False).ids) == prompt.ids
    assert prompts.make_set(tokenizer, texts, shared + own, 12, seed, shared, "s") == made


def test_sets_of_other_seeds_share_a_beginning_by_its_own_seed_alone(tokenizer, sources):
    one, two, other = (
        prompts.make_set(tokenizer, sources, 64, 8, seed, 48, shared_seed)
        for seed, shared_seed in (("a", "s"), ("b", "s"), ("a", "t"))
    )
    assert not {prompt.ids for prompt in one} & {prompt.ids for prompt in two}
    assert in_common(one + two)[1] >= 48
    assert alike(one[0].ids, other[0].ids) < prefix_cache.TAG_TOKENS
    # A seed of a beginning that there is not changes nothing.
    plain = prompts.make_set(tokenizer, sources, 64, 8, "a")
    assert prompts.make_set(tokenizer, sources, 64, 8, "a", 0, "s") == plain


def test_what_a_tokenizer_adds_in_front_is_a_part_of_what_is_shared(tokenizer, sources):
    adds = Tokenizer.from_str(tokenizer.to_str())
    ids = {name: adds.token_to_id(name) for name in ("<|begin|>", "<|end|>")}
    adds.post_processor = TemplateProcessing(
        single="<|begin|> $A <|end|>", special_tokens=list(ids.items())
    )
    for shared in (1, 30):
        made = prompts.make_set(adds, sources, 60, 8, "a", shared, "s")
        most, fewest = in_common(made)
        assert fewest >= shared and most < shared + prefix_cache.TAG_TOKENS
        for prompt in made:
            assert (prompt.ids[0], prompt.ids[-1]) == tuple(ids.values())
            assert tuple(adds.encode(prompt.text).ids) == prompt.ids


def test_too_few_tokens_behind_what_is_shared_are_refused(tokenizer, sources):
    with pytest.raises(UserError, match="5000 different prompts of exactly 32 tokens"):
        prompts.make_set(tokenizer, sources, 32, 5000, "a", 31, "s")


def test_a_beginning_that_no_text_has_is_refused(tmp_path, tokenizer, sources):
    words = {"type": "WordLevel", "vocab": {"[UNK]": 0}, "unk_token": "[UNK]"}
    found = saved(tmp_path, tokenizer, added_tokens=[], pre_tokenizer=None, model=words)
    with pytest.raises(UserError, match=r"shared_prefix_tokens: expected .* exactly 32 tokens"):
        prompts.make_set(found, sources, 64, 2, "a", 32, "s")


def test_more_prompts_than_can_differ_are_refused(tokenizer, sources):
    with pytest.raises(UserError, match="5000 different prompts of exactly 1 tokens"):
        prompts.make_set(tokenizer, sources, 1, 5000, "a")


def test_a_model_without_a_tokenizer_is_refused(tmp_path):
    with pytest.raises(UserError, match=r"tokenizer\.json: expected a tokenizer"):
        prompts.load_tokenizer(tmp_path)


def with_parts(tokenizer, **parts):
    """The same tokenizer with parts of its file set."""
    return json.dumps(json.loads(tokenizer.to_str()) | parts)


def saved(tmp_path, tokenizer, **parts):
    (tmp_path / "tokenizer.json").write_text(with_parts(tokenizer, **parts))
    return prompts.load_tokenizer(tmp_path)


@pytest.mark.parametrize("length", [4, 24, 64])
def test_cutting_and_padding_that_a_tokenizer_was_saved_with_are_off(
    tmp_path, tokenizer, sources, length
):
    cut = {"direction": "Right", "max_length": 16, "strategy": "LongestFirst", "stride": 0}
    pad = {
        "strategy": {"Fixed": 32}, "direction": "Right", "pad_to_multiple_of": None, "pad_id": 2,
        "pad_type_id": 0, "pad_token": "<|pad|>",
    }  # fmt: skip
    found = saved(tmp_path, tokenizer, truncation=cut, padding=pad)
    assert prompts.make_set(found, sources, length, 3, "a") == prompts.make_set(
        tokenizer, sources, length, 3, "a"
    )


@pytest.mark.parametrize(
    ("single", "head", "tail"),
    [("$A <|end|>", 0, 1), ("<|begin|> $A <|end|>", 1, 1), ("<|begin|> <|begin|> $A", 2, 0)],
)
def test_what_a_tokenizer_adds_around_a_text_counts(tokenizer, sources, single, head, tail):
    adds = Tokenizer.from_str(tokenizer.to_str())
    ids = {name: adds.token_to_id(name) for name in ("<|begin|>", "<|end|>")}
    adds.post_processor = TemplateProcessing(single=single, special_tokens=list(ids.items()))
    for prompt in prompts.make_set(adds, sources, 40, 5, "a"):
        assert len(prompt.ids) == 40
        assert prompt.ids[:head] == (ids["<|begin|>"],) * head
        assert prompt.ids[40 - tail :] == (ids["<|end|>"],) * tail
        assert not set(ids.values()) & set(prompt.ids[head : 40 - tail])
        assert tuple(adds.encode(prompt.text).ids) == prompt.ids
    with pytest.raises(UserError, match=rf"1 tokens \({head + tail} of which the tokenizer adds"):
        prompts.make_set(adds, sources, 1, 3, "a")


def test_a_tokenizer_that_adds_tokens_in_the_middle_is_refused(tokenizer, sources):
    odd = Tokenizer.from_str(tokenizer.to_str())
    odd.normalizer = None
    begin = odd.token_to_id("<|begin|>")

    class Between:
        def __init__(self):
            self.ids = [5, 6]

        def encode(self, text, add_special_tokens=True):
            return type("E", (), {"ids": [5, begin, 6] if add_special_tokens else [5, 6]})

    with pytest.raises(UserError, match="adds tokens in front of a text or behind it at most"):
        prompts.make_set(Between(), sources, 8, 1, "a")


@pytest.mark.parametrize(
    "text",
    ["What does <|end|> mean?", "<|begin|>", "a <|begin|><|end|><|pad|> b", "<<|end|>|end|>"],
)
def test_control_tokens_in_a_source_are_plain_text(tokenizer, text):
    control = {tokenizer.token_to_id(name) for name in ("<|begin|>", "<|end|>", "<|pad|>")}
    for prompt in prompts.make_set(tokenizer, [text], 64, 5, "a"):
        assert not control & set(prompt.ids)
        assert tuple(tokenizer.encode(prompt.text).ids) == prompt.ids


@pytest.mark.parametrize(
    "parts",
    [
        {"model": {"type": "WordLevel", "vocab": {"[UNK]": 0}, "unk_token": "[UNK]"}},
        {"normalizer": {"type": "Replace", "pattern": {"Regex": "[^a]"}, "content": ""}},
    ],
    ids=["one token for every text", "no text is left"],
)
def test_a_tokenizer_that_makes_next_to_no_tokens_is_refused_and_not_fed_for_ever(
    tmp_path, tokenizer, sources, parts
):
    found = saved(tmp_path, tokenizer, added_tokens=[], pre_tokenizer=None, **parts)
    with pytest.raises(UserError, match=r"prompt_tokens: expected|tokenizer\.json: expected"):
        prompts.make_set(found, sources, 64, 2, "a")


def test_a_source_of_megabytes_costs_no_more_than_its_beginning(tokenizer):
    (prompt, _) = prompts.make_set(tokenizer, ["word " * 2_000_000], 32, 2, "a")
    assert len(prompt.ids) == 32


def test_a_tokenizer_that_is_no_file_of_one_is_one_line(tmp_path):
    for content in (b"", b"{", b"[]", b"\xff\xfe", b"version https://git-lfs.github.com/spec/v1\n"):
        (tmp_path / "tokenizer.json").write_bytes(content)
        with pytest.raises(UserError, match=r"tokenizer\.json: expected a tokenizer") as caught:
            prompts.load_tokenizer(tmp_path)
        assert "\n" not in caught.value.message
    (tmp_path / "tokenizer.json").unlink()
    os.mkfifo(tmp_path / "tokenizer.json")
    with pytest.raises(UserError, match="found: a pipe"):
        prompts.load_tokenizer(tmp_path)
