import dataclasses
import json
import math
import os

import jinja2
import jinja2.sandbox
import numpy as np
import pytest
from tokenizers import Tokenizer

from enginebench.base.errors import UserError
from enginebench.hardware import roofline
from enginebench.plan import models, random_model


def header(model):
    """The safetensors header, and where the tensors start in the file."""
    with (model / "model.safetensors").open("rb") as file:
        size = int.from_bytes(file.read(8), "little")
        return json.loads(file.read(size)), 8 + size


def tensor(model, name):
    """A tensor's raw 16-bit values."""
    tensors, start = header(model)
    first, last = tensors[name]["data_offsets"]
    with (model / "model.safetensors").open("rb") as file:
        file.seek(start + first)
        raw = file.read(last - first)
    return np.frombuffer(raw, "<u2").reshape(tensors[name]["shape"])


def floats(raw):
    return (raw.astype("<u4") << 16).view("<f4")


SMALL = random_model.Design("random-small", random_model.Shape(2, 64, 8, 2, 8, 96, 6000), 512, 5e5)


def test_the_same_prompts_give_the_same_bytes(sources, tmp_path):
    one, two = (random_model.make(sources, tmp_path / name, SMALL) for name in ("one", "two"))
    names = sorted(path.name for path in one.iterdir())
    assert "model.safetensors" in names and "tokenizer.json" in names
    assert names == sorted(path.name for path in two.iterdir())
    assert one.name == two.name
    for name in names:
        assert (one / name).read_bytes() == (two / name).read_bytes(), name


def test_a_model_that_is_there_is_not_made_again_and_other_prompts_make_another(sources, tmp_path):
    model = random_model.make(sources, tmp_path, SMALL)
    weights = model / "model.safetensors"
    weights.write_bytes(b"touched")  # were it made again, this would be gone
    assert random_model.make(sources, tmp_path, SMALL) == model
    assert weights.read_bytes() == b"touched"
    other = random_model.make([*sources, "one more"], tmp_path, SMALL)
    assert other != model
    assert (other / "model.safetensors").stat().st_size > len(b"touched")


def test_an_interrupted_making_leaves_no_model(sources, tmp_path, monkeypatch):
    written = []

    def interrupt(*_):
        written.extend(path.name for path in tmp_path.glob("*/*"))
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "pwrite", interrupt)  # the weights come last
    with pytest.raises(KeyboardInterrupt):
        random_model.make(sources, tmp_path, SMALL)
    assert "config.json" in written
    assert [path.suffix for path in tmp_path.iterdir()] == [".lock"]


def test_the_weights_are_one_gapless_safetensors_file(embedded_model):
    tensors, start = header(embedded_model)
    tensors.pop("__metadata__")
    assert start % 8 == 0
    end = 0
    for entry in sorted(tensors.values(), key=lambda entry: entry["data_offsets"]):
        assert entry["dtype"] == "BF16"
        assert entry["data_offsets"][0] == end
        end += 2 * math.prod(entry["shape"])
        assert entry["data_offsets"][1] == end
    assert (embedded_model / "model.safetensors").stat().st_size == start + end
    assert 100e6 < end / 2 < 120e6  # parameters


def test_the_config_fits_the_tensors(embedded_model):
    config = json.loads((embedded_model / "config.json").read_text())
    tensors, _ = header(embedded_model)
    assert (config["num_attention_heads"], config["num_key_value_heads"]) == (12, 4)
    assert config["num_attention_heads"] * config["head_dim"] == config["hidden_size"] == 768
    layer = "model.layers.15.self_attn"
    assert tensors[f"{layer}.q_proj.weight"]["shape"] == [12 * 64, 768]
    assert tensors[f"{layer}.k_proj.weight"]["shape"] == [4 * 64, 768]
    assert tensors["lm_head.weight"]["shape"] == [config["vocab_size"], 768]
    assert f"model.layers.{config['num_hidden_layers']}.mlp.up_proj.weight" not in tensors
    assert (
        config["vocab_size"]
        == Tokenizer.from_file(str(embedded_model / "tokenizer.json")).get_vocab_size()
    )


def test_special_tokens_and_parts_of_characters_are_never_generated(embedded_model):
    tokenizer = Tokenizer.from_file(str(embedded_model / "tokenizer.json"))
    loud = tensor(embedded_model, "lm_head.weight").any(axis=1)
    for name in ("<|begin|>", "<|end|>", "<|pad|>"):
        assert not loud[tokenizer.token_to_id(name)], name
    config = json.loads((embedded_model / "config.json").read_text())
    assert not loud[config["eos_token_id"]]
    for token_id in range(tokenizer.get_vocab_size()):
        text = tokenizer.decode([token_id])
        assert loud[token_id] == (text != "" and "\ufffd" not in text), (token_id, text)
    assert loud.sum() > 3800


def test_the_noise_has_the_spread_of_a_fresh_model(embedded_model):
    projection = floats(tensor(embedded_model, "model.layers.3.mlp.down_proj.weight"))
    assert float(projection.mean()) == pytest.approx(0, abs=1e-4)
    assert float(projection.std()) == pytest.approx(1 / math.sqrt(2048), rel=0.01)
    assert set(floats(tensor(embedded_model, "model.norm.weight"))) == {1.0}


def test_there_is_a_chat_template(embedded_model):
    """Rendered as transformers and the engines do it."""
    config = json.loads((embedded_model / "tokenizer_config.json").read_text())
    template = jinja2.sandbox.ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined
    ).from_string(config["chat_template"])
    messages = [{"role": "user", "content": "Hello"}, {"role": "assistant", "content": "Yes?"}]
    values = {"bos_token": config["bos_token"], "messages": messages}
    said = "<|begin|>[user] Hello\n[assistant] Yes?\n"
    assert template.render(values, add_generation_prompt=False) == said
    assert template.render(values, add_generation_prompt=True) == said + "[assistant] "


def test_a_model_can_be_made_in_any_llamas_shape(sources, tmp_path):
    model = random_model.make(sources, tmp_path, SMALL)
    config = json.loads((model / "config.json").read_text())
    assert roofline.shape(config).weights == SMALL.shape.weights
    assert (config["max_position_embeddings"], config["rope_theta"]) == (512, 5e5)
    tensors, _ = header(model)
    count = sum(math.prod(t["shape"]) for name, t in tensors.items() if name != "__metadata__")
    assert count == SMALL.shape.weights
    head = tensor(model, "lm_head.weight")
    known = Tokenizer.from_file(str(model / "tokenizer.json")).get_vocab_size()
    assert head.shape == (6000, 64)
    assert not head[known:].any()  # what has no text is never generated


def test_two_shapes_are_two_models(sources, tmp_path):
    other = dataclasses.replace(SMALL, rope_theta=1e4)
    assert random_model.make(sources, tmp_path, SMALL) != random_model.make(
        sources, tmp_path, other
    )


def test_a_study_names_a_shape_by_its_model():
    made = models.design("random:llama-2-7b")
    assert made.shape.weights == 6_738_415_616  # as the roofline's tests count it
    assert (made.context, made.rope_theta) == (4096, 10000.0)
    assert models.design("random:llama-3-8b").shape.kv_heads == 8
    assert models.design("embedded") is random_model.EMBEDDED
    assert models.design("meta-llama/Llama-2-7b-hf") is None


def test_a_shape_that_is_not_known_is_one_line_that_names_those_that_are():
    with pytest.raises(UserError, match=r"expected random: with one of .*llama-2-7b.*mixtral-8x7b"):
        models.design("random:mixtral-8x7b")


def test_what_a_killed_run_had_begun_is_removed_by_the_next(tmp_path, monkeypatch):
    monkeypatch.setattr(random_model, "_write", lambda where, *_: (where / "config.json").touch())
    made = random_model.make(["text"], tmp_path)
    begun = tmp_path / f"{made.name}.abcd1234"
    made.rename(begun)
    assert random_model.make(["text"], tmp_path) == made
    assert not begun.exists() and (made / "config.json").exists()
