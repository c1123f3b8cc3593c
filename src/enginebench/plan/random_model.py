"""Models generated locally, for machines with no model hub: the embedded one, or any Llama's shape.

The embedded model is a Llama of about 107 M parameters with grouped-query attention (12 query
heads, 4 KV heads); others have the sizes of a model that is known by name. The weights are seeded
noise, so the text is gibberish; how fast an engine runs does not depend on the weights' values.
Everything that an engine's speed does depend on is real: Llama architecture, bfloat16 safetensors,
a byte-level BPE tokenizer trained on the study's own prompts, a chat template.

The same prompts give the same bytes. Weights come straight from the bits of Philox generators,
whose output NumPy keeps stable across versions, unlike that of its distributions.

Two properties are built in, so that noise does not trip a measurement: the output rows of special
tokens, of tokens that are not whole UTF-8 characters and of ids that the tokenizer lacks are zero.
Greedy decoding then never emits end-of-sequence, and every token adds visible text at once.
"""

import hashlib
import json
import math
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from filelock import FileLock
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

RECIPE = "1"  # part of the directory's name: raise it whenever any byte may change
SEED = 20
TOKENS = 4096  # that the tokenizer learns; a prompt file of this size supports no more
MOST_THREADS = 8  # each holds a tensor some times in float32: 6 GB for Llama-3-8B's largest
BOS, EOS, PAD = "<|begin|>", "<|end|>", "<|pad|>"
SPECIAL = (BOS, EOS, PAD)

CHAT_TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}"
    "[{{ message['role'] }}] {{ message['content'] }}\n{% endfor %}"
    "{% if add_generation_prompt %}[assistant] {% endif %}"
)


@dataclass(frozen=True, slots=True)
class Shape:
    """The sizes of a plain Llama."""

    layers: int
    hidden: int
    heads: int
    kv_heads: int
    head_size: int
    intermediate: int
    vocabulary: int

    @property
    def weights(self) -> int:
        """All parameters, as ``_sizes`` lists them."""
        return sum(math.prod(sizes) for _, sizes in _sizes(self, self.vocabulary))


@dataclass(frozen=True, slots=True)
class Design:
    """The design of a generated model."""

    name: str
    shape: Shape  # vocabulary 0: as many as the tokenizer has
    context: int = 4096
    rope_theta: float = 10000.0


EMBEDDED = Design("embedded", Shape(16, 768, 12, 4, 64, 2048, 0))


def make(texts: Sequence[str], cache: Path, design: Design = EMBEDDED) -> Path:
    """The model's directory below ``cache``, made now if it is not there yet.

    That takes seconds for the embedded one, and about 20 s a billion parameters and core.

    Args:
        texts: what the tokenizer is trained on; the directory is named by their hash.
        cache: where models are kept; made if missing.
    """
    digest = hashlib.sha256("\0".join([RECIPE, repr(design), *texts]).encode()).hexdigest()
    target = cache / f"{design.name}-{RECIPE}-{digest[:12]}"
    cache.mkdir(parents=True, exist_ok=True)
    with FileLock(cache / f"{target.name}.lock"):
        if not target.exists():
            for left in cache.glob(f"{target.name}.*/"):  # by a run that was killed
                shutil.rmtree(left, ignore_errors=True)
            work = Path(tempfile.mkdtemp(prefix=f"{target.name}.", dir=cache))
            try:
                _write(work, texts, design)
                work.chmod(0o755)  # a container's user must be able to read it
                work.replace(target)  # whole or not at all
            except BaseException:
                shutil.rmtree(work, ignore_errors=True)
                raise
    return target


def _write(directory: Path, texts: Sequence[str], design: Design) -> None:
    tokenizer = _train_tokenizer(texts)
    tokenizer.save(str(directory / "tokenizer.json"))
    shape = design.shape
    vocabulary = max(tokenizer.get_vocab_size(), shape.vocabulary)
    ids = {name: tokenizer.token_to_id(name) for name in SPECIAL}
    special: dict[str, object] = {
        "bos_token_id": ids[BOS],
        "eos_token_id": ids[EOS],
        "pad_token_id": ids[PAD],
    }
    config: dict[str, object] = {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "hidden_size": shape.hidden,
        "intermediate_size": shape.intermediate,
        "num_hidden_layers": shape.layers,
        "num_attention_heads": shape.heads,
        "num_key_value_heads": shape.kv_heads,
        "head_dim": shape.head_size,
        "hidden_act": "silu",
        "max_position_embeddings": design.context,
        "rms_norm_eps": 1e-5,
        "rope_theta": design.rope_theta,
        "attention_bias": False,
        "mlp_bias": False,
        "tie_word_embeddings": False,
        "torch_dtype": "bfloat16",
        "vocab_size": vocabulary,
    }
    _write_json(directory / "config.json", config | special)
    _write_json(directory / "generation_config.json", {"do_sample": False, **special})
    tokenizer_config = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": BOS,
        "eos_token": EOS,
        "pad_token": PAD,
        "model_max_length": design.context,
        "clean_up_tokenization_spaces": False,
        "chat_template": CHAT_TEMPLATE,
    }
    _write_json(directory / "tokenizer_config.json", tokenizer_config)
    silent = [*_silent_rows(tokenizer), *range(tokenizer.get_vocab_size(), vocabulary)]
    _write_weights(directory / "model.safetensors", silent, dict(_sizes(shape, vocabulary)))


def _write_json(path: Path, value: dict[str, object]) -> None:
    path.write_text(json.dumps(value, indent=2, sort_keys=True) + "\n")


def _train_tokenizer(texts: Sequence[str]) -> Tokenizer:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=TOKENS,
        special_tokens=list(SPECIAL),
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer


def _silent_rows(tokenizer: Tokenizer) -> list[int]:
    """Ids that must never be generated: special tokens, and parts of a character."""
    silent = []
    for token, token_id in tokenizer.get_vocab().items():
        text = "" if token in SPECIAL else tokenizer.decoder.decode([token])
        if not text or "\ufffd" in text:
            silent.append(token_id)
    return sorted(silent)


def _sizes(shape: Shape, vocabulary: int) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Every tensor's name and sizes, in the order of the file."""
    hidden, inner = shape.hidden, shape.intermediate
    queries, keys = shape.heads * shape.head_size, shape.kv_heads * shape.head_size
    yield "model.embed_tokens.weight", (vocabulary, hidden)
    for layer in range(shape.layers):
        prefix = f"model.layers.{layer}"
        yield f"{prefix}.input_layernorm.weight", (hidden,)
        yield f"{prefix}.self_attn.q_proj.weight", (queries, hidden)
        yield f"{prefix}.self_attn.k_proj.weight", (keys, hidden)
        yield f"{prefix}.self_attn.v_proj.weight", (keys, hidden)
        yield f"{prefix}.self_attn.o_proj.weight", (hidden, queries)
        yield f"{prefix}.post_attention_layernorm.weight", (hidden,)
        yield f"{prefix}.mlp.gate_proj.weight", (inner, hidden)
        yield f"{prefix}.mlp.up_proj.weight", (inner, hidden)
        yield f"{prefix}.mlp.down_proj.weight", (hidden, inner)
    yield "model.norm.weight", (hidden,)
    yield "lm_head.weight", (vocabulary, hidden)


def _write_weights(path: Path, silent: Sequence[int], sizes: Mapping[str, tuple[int, ...]]) -> None:
    """Write one safetensors file: 8 bytes of header length, the JSON header, then the tensors."""
    header: dict[str, object] = {"__metadata__": {"format": "pt"}}
    starts, offset = {}, 0
    for name, shape in sizes.items():
        starts[name], end = offset, offset + 2 * math.prod(shape)
        header[name] = {"dtype": "BF16", "shape": list(shape), "data_offsets": [offset, end]}
        offset = end
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)  # tensors start at a multiple of eight
    head = len(text).to_bytes(8, "little") + text
    with path.open("wb") as file:
        file.write(head)
        file.flush()

        def write(name: str) -> None:
            tensor = _noise(name, sizes[name])
            if name == "lm_head.weight":
                tensor[list(silent)] = 0
            left, place = memoryview(tensor.tobytes()), len(head) + starts[name]
            while left:  # one call writes at most 2 GiB
                count = os.pwrite(file.fileno(), left, place)
                left, place = left[count:], place + count

        threads = min(len(os.sched_getaffinity(0)), MOST_THREADS)
        with ThreadPoolExecutor(threads) as pool:
            list(pool.map(write, sizes))


def _noise(name: str, shape: tuple[int, ...]) -> np.ndarray:
    """Seeded bfloat16 values as raw uint16: ones for norms, else uniform of variance 1/fan-in."""
    if len(shape) == 1:
        return np.full(shape, 0x3F80, dtype="<u2")  # 1.0
    key = int.from_bytes(hashlib.sha256(f"{SEED}/{name}".encode()).digest()[:16], "little")
    bits = np.random.Philox(key=key).random_raw(math.prod(shape) // 4).astype("<u8").view("<u2")
    fan_in = 1 if name == "model.embed_tokens.weight" else shape[-1]
    limit = np.float32(math.sqrt(3.0 / fan_in))
    values = (bits.astype(np.float32) + np.float32(0.5)) / np.float32(32768) - np.float32(1)
    return _bfloat16(values * limit).reshape(shape)


def _bfloat16(values: np.ndarray) -> np.ndarray:
    """float32 to bfloat16, rounded to nearest even, as raw uint16."""
    raw = values.view("<u4")
    rounded = raw + np.uint32(0x7FFF) + ((raw >> np.uint32(16)) & np.uint32(1))
    return (rounded >> np.uint32(16)).astype("<u2")
