"""The embedded model: a Llama of about 107 M parameters made here, for machines with no model hub.

Its weights are seeded noise, so its text is gibberish; how fast an engine runs does not depend on
what the weights say. Everything that an engine's speed does depend on is real: Llama architecture,
grouped-query attention (12 query heads, 4 KV heads), bfloat16 safetensors, a byte-level BPE
tokenizer trained on the study's own prompts, a chat template.

The same prompts give the same bytes. Weights come straight from the bits of Philox generators,
whose output NumPy keeps stable across versions, unlike that of its distributions.

Two properties are built in, so that noise does not trip a measurement: the output rows of special
tokens and of tokens that are not whole UTF-8 characters are zero. Greedy decoding then never emits
end-of-sequence, and every token adds visible text at once.
"""

import hashlib
import json
import math
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from filelock import FileLock
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

RECIPE = "embedded-1"  # part of the directory's name: raise it whenever any byte may change
SEED = 20
VOCABULARY = 4096
HIDDEN, INTERMEDIATE, LAYERS, HEADS, KV_HEADS, HEAD_SIZE = 768, 2048, 16, 12, 4, 64
CONTEXT = 4096
BOS, EOS, PAD = "<|begin|>", "<|end|>", "<|pad|>"
SPECIAL = (BOS, EOS, PAD)

CHAT_TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}"
    "[{{ message['role'] }}] {{ message['content'] }}\n{% endfor %}"
    "{% if add_generation_prompt %}[assistant] {% endif %}"
)


def make(texts: Sequence[str], cache: Path) -> Path:
    """The model's directory below ``cache``, made now if it is not there yet (a few seconds).

    Args:
        texts: what the tokenizer is trained on; the directory is named by their hash.
        cache: where models are kept; made if missing.
    """
    digest = hashlib.sha256("\0".join([RECIPE, *texts]).encode()).hexdigest()
    target = cache / f"{RECIPE}-{digest[:12]}"
    cache.mkdir(parents=True, exist_ok=True)
    with FileLock(cache / f"{target.name}.lock"):
        if not target.exists():
            work = Path(tempfile.mkdtemp(prefix=f"{target.name}.", dir=cache))
            try:
                _write(work, texts)
                work.chmod(0o755)  # a container's user must be able to read it
                work.replace(target)  # whole or not at all
            except BaseException:
                shutil.rmtree(work, ignore_errors=True)
                raise
    return target


def _write(directory: Path, texts: Sequence[str]) -> None:
    tokenizer = _train_tokenizer(texts)
    tokenizer.save(str(directory / "tokenizer.json"))
    vocabulary = tokenizer.get_vocab_size()
    ids = {name: tokenizer.token_to_id(name) for name in SPECIAL}
    special: dict[str, object] = {
        "bos_token_id": ids[BOS],
        "eos_token_id": ids[EOS],
        "pad_token_id": ids[PAD],
    }
    config: dict[str, object] = {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "hidden_size": HIDDEN,
        "intermediate_size": INTERMEDIATE,
        "num_hidden_layers": LAYERS,
        "num_attention_heads": HEADS,
        "num_key_value_heads": KV_HEADS,
        "head_dim": HEAD_SIZE,
        "hidden_act": "silu",
        "max_position_embeddings": CONTEXT,
        "rms_norm_eps": 1e-5,
        "rope_theta": 10000.0,
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
        "model_max_length": CONTEXT,
        "clean_up_tokenization_spaces": False,
        "chat_template": CHAT_TEMPLATE,
    }
    _write_json(directory / "tokenizer_config.json", tokenizer_config)
    _write_weights(directory / "model.safetensors", _silent_rows(tokenizer), vocabulary)


def _write_json(path: Path, value: dict[str, object]) -> None:
    path.write_text(json.dumps(value, indent=2, sort_keys=True) + "\n")


def _train_tokenizer(texts: Sequence[str]) -> Tokenizer:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
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


def _shapes(vocabulary: int) -> Iterator[tuple[str, tuple[int, ...]]]:
    yield "model.embed_tokens.weight", (vocabulary, HIDDEN)
    for layer in range(LAYERS):
        prefix = f"model.layers.{layer}"
        yield f"{prefix}.input_layernorm.weight", (HIDDEN,)
        yield f"{prefix}.self_attn.q_proj.weight", (HEADS * HEAD_SIZE, HIDDEN)
        yield f"{prefix}.self_attn.k_proj.weight", (KV_HEADS * HEAD_SIZE, HIDDEN)
        yield f"{prefix}.self_attn.v_proj.weight", (KV_HEADS * HEAD_SIZE, HIDDEN)
        yield f"{prefix}.self_attn.o_proj.weight", (HIDDEN, HEADS * HEAD_SIZE)
        yield f"{prefix}.post_attention_layernorm.weight", (HIDDEN,)
        yield f"{prefix}.mlp.gate_proj.weight", (INTERMEDIATE, HIDDEN)
        yield f"{prefix}.mlp.up_proj.weight", (INTERMEDIATE, HIDDEN)
        yield f"{prefix}.mlp.down_proj.weight", (HIDDEN, INTERMEDIATE)
    yield "model.norm.weight", (HIDDEN,)
    yield "lm_head.weight", (vocabulary, HIDDEN)


def _write_weights(path: Path, silent: Sequence[int], vocabulary: int) -> None:
    """Write one safetensors file: 8 bytes of header length, the JSON header, then the tensors."""
    header: dict[str, object] = {"__metadata__": {"format": "pt"}}
    offset = 0
    for name, shape in _shapes(vocabulary):
        end = offset + 2 * math.prod(shape)
        header[name] = {"dtype": "BF16", "shape": list(shape), "data_offsets": [offset, end]}
        offset = end
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)  # tensors start at a multiple of eight
    with path.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for name, shape in _shapes(vocabulary):
            tensor = _noise(name, shape)
            if name == "lm_head.weight":
                tensor[list(silent)] = 0
            file.write(tensor.tobytes())


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
