"""Prompts of an exact token length.

Every engine gets the same prompts, so they are made once per study, by the model's own tokenizer,
from a seed. A prompt's text re-tokenizes to exactly its ids (checked), so an engine that takes ids
and an engine that takes text do the same work. Each prompt starts with a tag of its own: no two
share a first block, so no prefix cache can help. Where a workload has a shared beginning, the tag
comes behind it.
"""

import hashlib
import random
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from tokenizers import Tokenizer

from enginebench.base import text_file
from enginebench.base.errors import UserError
from enginebench.base.text import one_line

ATTEMPTS = 200  # different texts tried for one prompt before giving up
MOST_CHARS_A_TOKEN = 64  # of a source: more than tokenizers make of text; runs of spaces aside
MOST_TOKENIZER_BYTES = 1 << 30


@dataclass(frozen=True, slots=True)
class Prompt:
    ids: tuple[int, ...]
    text: str
    sha256: str  # of the ids, as little-endian 32-bit numbers


def load_tokenizer(model: Path) -> Tokenizer:
    """The tokenizer of a local model directory, without the cutting and padding saved in it.

    Raises:
        UserError: there is none, or it cannot be read.
    """
    file = model / "tokenizer.json"
    try:
        text = text_file.read_text(file, MOST_TOKENIZER_BYTES)
        tokenizer = Tokenizer.from_str(text)
        tokenizer.no_truncation()
        tokenizer.no_padding()
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:  # the library raises bare Exception, or its own PanicException
        reason = getattr(error, "reason", None) or str(error)
        raise UserError(
            f"{file}: expected a tokenizer in tokenizer.json, found: {one_line(reason)[:200]}; "
            "convert the model's tokenizer with transformers (save_pretrained) first"
        ) from None
    return tokenizer


@dataclass(frozen=True, slots=True)
class _Beginning:
    ids: tuple[int, ...] = ()
    text: str = ""


@dataclass(frozen=True, slots=True)
class _Writer:
    """Makes texts and ids with one tokenizer; every text is plain, without control tokens."""

    tokenizer: Tokenizer
    sources: Sequence[str]
    head: list[int]  # what the tokenizer puts in front of any text
    tail: list[int]  # and behind it
    control_ids: frozenset[int]
    control_text: re.Pattern[str] | None
    beginning: _Beginning = _Beginning()  # of every text, behind the head

    def source(self, draw: random.Random, length: int) -> str:
        """One source as drawn, no longer than so many tokens need.

        The name of a control token in it is broken by a space: an engine that is sent the text
        would read the token, and one that is sent the ids would not.
        """
        text = draw.choice(self.sources)[: length * MOST_CHARS_A_TOKEN]
        if self.control_text is None:
            return text
        return self.control_text.sub(lambda found: f"{found[0][0]} {found[0][1:]}", text)


def _writer(tokenizer: Tokenizer, sources: Sequence[str]) -> _Writer:
    """Look at what a tokenizer adds to a text.

    Raises:
        UserError: it adds otherwise than in front and behind.
    """
    probe = "0123 probe"
    plain = list(tokenizer.encode(probe, add_special_tokens=False).ids)
    whole = list(tokenizer.encode(probe).ids)
    starts = (k for k in range(len(whole)) if plain and whole[k : k + len(plain)] == plain)
    start = next(starts, None)
    if start is None:
        raise UserError(
            "tokenizer.json: expected a tokenizer that adds tokens in front of a text or behind it "
            f"at most, found one that makes {whole[:8]} of a text that is {plain[:8]}; use another "
            "model, or save its tokenizer with transformers (save_pretrained) again"
        )
    control = {
        i: token for i, token in tokenizer.get_added_tokens_decoder().items() if token.special
    }
    names = sorted(
        (t.content for t in control.values() if len(t.content) > 1), key=len, reverse=True
    )
    pattern = re.compile("|".join(map(re.escape, names))) if names else None
    head, tail = whole[:start], whole[start + len(plain) :]
    return _Writer(tokenizer, sources, head, tail, frozenset(control), pattern)


def make_set(
    tokenizer: Tokenizer,
    sources: Sequence[str],
    length: int,
    count: int,
    seed: str,
    shared: int = 0,
    shared_seed: str = "",
) -> list[Prompt]:
    """``count`` different prompts of exactly ``length`` tokens each, the same for the same seed.

    A prompt is ``shared`` tokens that all have, a tag of its own, and then source texts in a seeded
    order, cut at ``length`` tokens.
    A cut inside a word may tokenize otherwise on the way back; then another order is tried. What
    the tokenizer puts around any text (a beginning or end of sequence) counts: an engine that is
    sent the text puts it there itself, an engine that is sent the ids is sent it. No other control
    token is in a prompt.

    Args:
        shared: less than ``length``; 0: a prompt begins with its tag.
        shared_seed: sets of one such seed begin alike, whatever their other seed.

    Raises:
        UserError: the tokenizer cannot give such prompts.
    """
    prompts: dict[tuple[int, ...], Prompt] = {}
    writer = _writer(tokenizer, sources)
    if shared:
        writer = replace(writer, beginning=_make_beginning(writer, shared, shared_seed))
    for index in range(count):
        prompt = _make_one(writer, length, f"{seed}/{index}")
        if prompt is None or prompt.ids in prompts:
            reason = "none re-tokenizes to its own ids" if prompt is None else "two are the same"
            around = len(writer.head) + len(writer.tail)
            added = f" ({around} of which the tokenizer adds itself)" if around else ""
            raise UserError(
                f"prompt_tokens: expected {count} different prompts of exactly {length} tokens"
                f"{added}, found that {reason}; ask for a longer prompt or name other prompts in "
                "the study"
            )
        prompts[prompt.ids] = prompt
    return list(prompts.values())


def _make_beginning(writer: _Writer, length: int, seed: str) -> _Beginning:
    """What all prompts of a set begin with: ``length`` tokens, those of the head included.

    Raises:
        UserError: no cut there lets the tokens before it be as they are.
    """
    wanted = max(length - len(writer.head), 0)
    for attempt in range(ATTEMPTS):
        body = _fill(writer, length, f"{seed}/{attempt}")[:wanted]
        text = writer.tokenizer.decode(body, skip_special_tokens=False)
        # As a prompt goes on: the tag's first character must not join the last token.
        followed = list(writer.tokenizer.encode(f"{text}0", add_special_tokens=False).ids)
        is_plain = writer.control_ids.isdisjoint(body)
        if is_plain and len(body) == wanted and followed[:wanted] == body:
            return _Beginning(tuple(body), text)
    raise UserError(
        f"shared_prefix_tokens: expected a beginning of exactly {length} tokens, found that none "
        "re-tokenizes to its own ids; ask for another length or name other prompts in the study"
    )


def _make_one(writer: _Writer, length: int, seed: str) -> Prompt | None:
    tokenizer = writer.tokenizer
    wanted = max(length - len(writer.head) - len(writer.tail), 0)
    begins = list(writer.beginning.ids)
    for attempt in range(ATTEMPTS):
        body = _fill(writer, length, f"{seed}/{attempt}")[:wanted]
        text = tokenizer.decode(body, skip_special_tokens=False)
        ids = writer.head + body + writer.tail
        is_plain = writer.control_ids.isdisjoint(body) and body[: len(begins)] == begins
        if is_plain and len(ids) == length and tokenizer.encode(text).ids == ids:
            raw = b"".join(token.to_bytes(4, "little") for token in ids)
            return Prompt(tuple(ids), text, hashlib.sha256(raw).hexdigest())
    return None


def _fill(writer: _Writer, length: int, seed: str) -> list[int]:
    """The ids of a text of at least ``length`` tokens: the beginning, a tag, sources as drawn.

    Fewer where the tokenizer makes next to no tokens of a text.
    """
    draw = random.Random(seed)
    text = writer.beginning.text + hashlib.sha256(seed.encode()).hexdigest()[:8]
    ids: list[int] = []
    while len(ids) < length:
        before, count = len(text), len(ids)
        # Several at a time: a long prompt must not cost one tokenizer call for each short source.
        missing = max(length - len(ids), 1)
        while len(text) - before < missing * 4:
            text += "\n\n" + writer.source(draw, length)
        ids = list(writer.tokenizer.encode(text, add_special_tokens=False).ids)
        if len(ids) <= count or len(text) > 2 * MOST_CHARS_A_TOKEN * (length + 1):
            break
    return ids


def file_sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
