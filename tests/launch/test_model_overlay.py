import json
import os

import pytest

from enginebench.base.errors import UserError
from enginebench.launch import model_overlay


def make_model(root, config='{"eos_token_id": [2, 7], "temperature": 0.6}'):
    """As a hub's cache holds it: the weights are a link to a file elsewhere."""
    model = root / "hub" / "model"
    model.mkdir(parents=True)
    (root / "blob").write_bytes(b"weights")
    (model / "model.safetensors").symlink_to("../../blob")
    (model / "config.json").write_text('{"eos_token_id": 2}')
    if config is not None:
        (model / "generation_config.json").write_text(config)
    return model


def contents(directory):
    return {path.name: path.read_bytes() for path in directory.iterdir()}


def test_only_the_end_of_sequence_is_gone_and_the_model_is_as_it_was(tmp_path):
    model = make_model(tmp_path)
    before = contents(model)
    made = model_overlay.without_eos(model)
    assert made.parent == model.parent and made != model
    assert contents(model) == before
    config = json.loads((made / "generation_config.json").read_text())
    assert config == {"eos_token_id": [], "temperature": 0.6}
    assert contents(made) == before | {
        "generation_config.json": (made / "generation_config.json").read_bytes()
    }


def test_its_files_are_the_models_own_and_need_no_other_directory(tmp_path):
    made = model_overlay.without_eos(make_model(tmp_path))
    weights = made / "model.safetensors"
    assert not weights.is_symlink()
    assert weights.samefile(tmp_path / "blob")  # no copy


def test_a_model_with_no_generation_config_gets_one(tmp_path):
    made = model_overlay.without_eos(make_model(tmp_path, config=None))
    assert json.loads((made / "generation_config.json").read_text()) == {"eos_token_id": []}


def test_it_follows_a_model_that_changed_and_leaves_nothing_else_behind(tmp_path):
    model = make_model(tmp_path)
    model_overlay.without_eos(model)
    (model / "config.json").unlink()
    (model / "tokenizer.json").write_text("{}")
    made = model_overlay.without_eos(model)
    names = {"generation_config.json", "model.safetensors", "tokenizer.json"}
    assert set(contents(made)) == names
    assert {path.name for path in model.parent.iterdir()} == {model.name, made.name}


def test_what_cannot_be_made_is_said_in_one_line(tmp_path, monkeypatch):
    def refuse(*_):
        raise PermissionError(1, "Operation not permitted")

    model = make_model(tmp_path)
    monkeypatch.setattr("os.link", refuse)
    with pytest.raises(UserError, match="Operation not permitted") as caught:
        model_overlay.without_eos(model)
    assert "\n" not in caught.value.message
    assert [path.name for path in model.parent.iterdir()] == ["model"]


def test_a_generation_config_that_is_no_json_is_named(tmp_path):
    with pytest.raises(UserError, match=r"generation_config\.json: expected JSON"):
        model_overlay.without_eos(make_model(tmp_path, config="{half"))


def test_a_model_of_links_is_given_to_containers_without_any(tmp_path):
    model = make_model(tmp_path)
    made = model_overlay.without_links(model)
    assert made.parent == model.parent and made != model
    assert not any(path.is_symlink() for path in made.iterdir())
    assert contents(made) == contents(model)
    assert model_overlay.without_links(made) == made  # it has none: nothing is made


@pytest.mark.parametrize(
    "content", ["[]", "5", "[" * 100_000, None], ids=["list", "5", "deep", "pipe"]
)
def test_a_generation_config_that_is_no_object_is_one_line(tmp_path, content):
    (tmp_path / "model").mkdir()
    file = tmp_path / "model" / "generation_config.json"
    os.mkfifo(file) if content is None else file.write_text(content)
    with pytest.raises(UserError, match=r"generation_config\.json: expected (a )?JSON"):
        model_overlay.without_eos(tmp_path / "model")
