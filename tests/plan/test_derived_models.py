import hashlib
import json
import math

import numpy as np
import pytest

from enginebench.base.errors import UserError
from enginebench.hardware.model_config import shape
from enginebench.plan import derived_models, models, random_model, tensor_file
from enginebench.plan.derived_models import KINDS, derive

#: 4 layers of hidden 64, 8 query and 2 KV heads of 8, inner 128, vocabulary 6000.
DESIGN = random_model.Design("random-small", random_model.Shape(4, 64, 8, 2, 8, 128, 6000), 512)
MATRICES = 7 * 4
WEIGHTS = 4 * (2 * 64 * 64 + 2 * 16 * 64 + 3 * 64 * 128)  # in them
BESIDE = 2 * (2 * 6000 * 64 + (2 * 4 + 1) * 64)  # bytes of the tables and norms, in bfloat16
ROWS = 4 * (64 + 16 + 16 + 64 + 128 + 128 + 64)  # outputs of the matrices


@pytest.fixture(scope="module")
def small(sources, tmp_path_factory):
    return random_model.make(sources, tmp_path_factory.mktemp("models"), DESIGN)


def tensors(directory):
    return tensor_file.stored(directory)


def values(directory, name):
    return tensors(directory)[name].floats()


def sha256(file):
    return hashlib.sha256(file.read_bytes()).hexdigest()


def copy_of(model, target, **config):
    """The model with other entries in config.json."""
    target.mkdir()
    for file in model.iterdir():
        (target / file.name).write_bytes(file.read_bytes())
    stored = json.loads((model / "config.json").read_text())
    (target / "config.json").write_text(json.dumps(stored | config))
    return target


@pytest.mark.parametrize("kind", [*KINDS, "easy-0.5"])
def test_the_same_model_gives_the_same_bytes(kind, small, tmp_path):
    one, two = (derive(small, kind, tmp_path / name) for name in ("one", "two"))
    assert one.name == two.name
    assert sorted(p.name for p in one.iterdir()) == sorted(p.name for p in small.iterdir())
    for file in one.iterdir():
        assert sha256(file) == sha256(two / file.name), file.name


def test_every_kind_and_every_model_has_a_directory_of_its_own(small, tmp_path):
    other = copy_of(small, tmp_path / "other", rope_theta=5.0)
    cache = tmp_path / "cache"
    made = {derive(model, kind, cache) for model in (small, other) for kind in [*KINDS, "easy-0.5"]}
    assert len(made) == 2 * 7


def test_a_copy_that_is_there_is_not_made_again(small, tmp_path):
    made = derive(small, "w8a8", tmp_path)
    (made / "model.safetensors").write_bytes(b"touched")
    assert derive(small, "w8a8", tmp_path) == made
    assert (made / "model.safetensors").read_bytes() == b"touched"


def test_an_interrupted_making_leaves_nothing(small, tmp_path, monkeypatch):
    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("os.pwrite", interrupt)
    with pytest.raises(KeyboardInterrupt):
        derive(small, "awq", tmp_path)
    assert [path.suffix for path in tmp_path.iterdir()] == [".lock"]


@pytest.mark.parametrize(
    ("kind", "scale_bits", "beside_scales"),
    [
        ("w8a8", 0, 2 * ROWS),  # a scale of 16 bits a row: no share of a weight's bits
        ("w4a16", 16 / 64, 16 * MATRICES),  # the two sizes of each matrix, in 64 bits
    ],
)
def test_the_bytes_that_a_bound_counts_are_those_of_the_file(
    kind, scale_bits, beside_scales, small, tmp_path
):
    made = derive(small, kind, tmp_path)
    stored = sum(tensor.size for tensor in tensors(made).values())
    bits = {"w8a8": 8, "w4a16": 4}[kind]
    assert stored == WEIGHTS * (bits + scale_bits) / 8 + BESIDE + beside_scales
    counted = shape(json.loads((made / "config.json").read_text())).weights_bytes(2)
    assert counted == stored - beside_scales


def test_the_embedded_models_copies_are_within_a_few_thousandths_of_the_bytes_counted(
    embedded_model, tmp_path
):
    for kind, most in (("w8a8", 1.003), ("w4a16", 1.0001)):
        made = derive(embedded_model, kind, tmp_path)
        stored = sum(tensor.size for tensor in tensors(made).values())
        counted = shape(json.loads((made / "config.json").read_text())).weights_bytes(2)
        assert 1 <= stored / counted < most


def test_a_quantized_copy_is_recorded_with_the_bytes_that_it_stores(small, tmp_path):
    made = models.resolve(str(derive(small, "w4a16", tmp_path)), [], tmp_path)
    assert made.weights_bytes == sum(tensor.size for tensor in tensors(made.path).values())
    assert made.parameters is None  # eight to an element


def test_only_the_matrices_of_the_layers_are_quantized(small, tmp_path):
    made = derive(small, "gptq", tmp_path)
    assert (values(made, "lm_head.weight") == values(small, "lm_head.weight")).all()
    names = set(tensors(made))
    assert "model.layers.3.mlp.up_proj.weight" not in names
    assert sum(name.endswith(".qweight") for name in names) == MATRICES


def test_easy_damps_what_the_later_layers_add(small, tmp_path):
    made = derive(small, "easy-0.5", tmp_path)
    for layer, factor in ((0, 1.0), (1, 1.0), (2, 0.5), (3, 0.5)):
        for name in ("self_attn.o_proj", "mlp.down_proj"):
            name = f"model.layers.{layer}.{name}.weight"
            assert (values(made, name) == factor * values(small, name)).all()  # halves are exact
        name = f"model.layers.{layer}.self_attn.q_proj.weight"
        assert (values(made, name) == values(small, name)).all()
    weakest = derive(small, "easy", tmp_path)
    name = "model.layers.2.mlp.down_proj.weight"
    ratio = np.abs(values(weakest, name)).sum() / np.abs(values(small, name)).sum()
    assert ratio == pytest.approx(derived_models.DAMPING, rel=0.01)


def test_the_draft_is_the_first_layers_of_the_easy_model(small, tmp_path):
    easy = derive(small, "easy", tmp_path)
    draft = derive(easy, "draft", tmp_path)
    assert json.loads((draft / "config.json").read_text())["num_hidden_layers"] == 2
    found = tensors(draft)
    assert len(found) == 3 + 2 * 9  # tables, last norm; seven matrices and two norms a layer
    for name, tensor in found.items():
        assert (tensor.raw() == tensors(easy)[name].raw()).all(), name


def test_a_draft_has_a_type_for_each_of_its_layers(small, tmp_path):
    typed = copy_of(small, tmp_path / "typed", layer_types=["full_attention"] * 4)
    config = json.loads((derive(typed, "draft", tmp_path) / "config.json").read_text())
    assert config["layer_types"] == ["full_attention"] * 2


def test_a_model_in_shards_gives_the_same_weights(small, tmp_path):
    sharded = copy_of(small, tmp_path / "sharded")
    whole = tensors(small)
    (sharded / "model.safetensors").unlink()
    parts = {"a.safetensors": list(whole)[:7], "b.safetensors": list(whole)[7:]}
    for file, names in parts.items():
        forms = {name: whole[name].form for name in names}
        tensor_file.write(sharded / file, forms, names, lambda name: {name: whole[name].raw()})
    index = {"weight_map": {name: file for file, names in parts.items() for name in names}}
    (sharded / "model.safetensors.index.json").write_text(json.dumps(index))
    one, two = (derive(model, "w8a8", tmp_path / "cache") for model in (small, sharded))
    assert sha256(one / "model.safetensors") == sha256(two / "model.safetensors")
    assert not (two / "model.safetensors.index.json").exists()


def write_model(directory, forms, **config):
    directory.mkdir()
    (directory / "config.json").write_text(json.dumps({"num_hidden_layers": 1} | config))
    sizes = {"BF16": 2, "F32": 4, "I8": 1}
    tensor_file.write(
        directory / "model.safetensors",
        forms,
        forms,
        lambda n: {n: np.zeros(sizes[forms[n][0]] * math.prod(forms[n][1]), np.uint8)},
    )
    return directory


@pytest.mark.parametrize(
    ("name", "form", "kind", "says"),
    [
        ("block_sparse_moe.gate.weight", ("BF16", (8, 64)), "w8a8", "a Llama-like model .* found"),
        ("mlp.up_proj.weight", ("I8", (8, 64)), "w8a8", "weights in BF16, F16, F32 .* in I8"),
        ("mlp.up_proj.weight", ("BF16", (8, 96)), "w4a16", "inputs of 64 .* found .*up_proj"),
        ("mlp.up_proj.weight", ("BF16", (12, 64)), "awq", "outputs a multiple of 8, inputs of 64"),
        ("mlp.up_proj.weight", ("BF16", (8, 64)), "draft", "more than 2 layers .* found 1"),
        ("mlp.up_proj.weight", ("BF16", (8, 64)), "int2", "expected one of w8a8, .* found 'int2'"),
        ("mlp.up_proj.weight", ("BF16", (8, 64)), "easy-2", "found 'easy-2'"),
    ],
)
def test_a_model_that_cannot_be_converted_is_refused_in_one_line(name, form, kind, says, tmp_path):
    model = write_model(tmp_path / "model", {f"model.layers.0.{name}": form})
    with pytest.raises(UserError, match=says) as caught:
        derive(model, kind, tmp_path / "cache")
    assert "\n" not in caught.value.message


@pytest.mark.parametrize(
    ("config", "says"),
    [
        ({"quantization_config": {"quant_method": "awq"}}, "weights that are not quantized"),
        ({"num_hidden_layers": 5}, "found 4 of 5"),
    ],
)
def test_a_config_that_does_not_fit_is_refused(config, says, small, tmp_path):
    model = copy_of(small, tmp_path / "model", **config)
    with pytest.raises(UserError, match=says):
        derive(model, "w8a8", tmp_path / "cache")
