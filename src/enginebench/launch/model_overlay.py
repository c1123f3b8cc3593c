"""A model in the form that an engine needs: without an end of sequence or links, or with a draft.

The overlay is a directory beside the model, with hard links to the model's files. They use no disk
space and work in a container that sees only this directory. The model's own directory is unchanged.
Engines that cannot ignore the end of sequence get a generation config that names none. Its effect
is checked, not assumed: a request that ends for any reason but its length makes its cell invalid.
"""

import json
import os
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from enginebench.base.errors import UserError
from enginebench.plan import model_files

CONFIG = "generation_config.json"
DRAFT = "draft"  # the directory of a draft model inside its target's


def edited(config: dict[str, Any]) -> dict[str, Any]:
    """A generation config that names no token as the end of sequence.

    An empty list, as without the key engines fall back on the tokenizer's own token.
    """
    return config | {"eos_token_id": []}


def without_eos(model: Path) -> Path:
    """Create an overlay of ``model`` whose generation config names no end of sequence.

    Returns:
        its directory, ``<model>.without-eos``; an older one is replaced.

    Raises:
        UserError: it cannot be created, or the generation config is no JSON object.
    """
    file = model / CONFIG
    config = model_files.read_object(file) if file.exists() else {}
    text = json.dumps(edited(config), indent=2) + "\n"
    return _beside(model, ".without-eos", {CONFIG: text})


def without_links(model: Path) -> Path:
    """The model's directory, or an overlay of it if it has symbolic links.

    The hub's cache has them: they lead out of the directory, so in a container that sees only this
    directory they lead nowhere.

    Raises:
        UserError: the overlay cannot be created.
    """
    has_links = any(path.is_symlink() for path in model.iterdir())
    return _beside(model, ".without-links", {}) if has_links else model


def with_draft(model: Path, draft: Path) -> Path:
    """An overlay of the model with the files of a draft model below ``DRAFT``.

    For a container, which sees one directory only.

    Raises:
        UserError: it cannot be created.
    """
    return _beside(model, f".with-{draft.name}", {}, draft)


def _beside(model: Path, suffix: str, texts: Mapping[str, str], draft: Path | None = None) -> Path:
    """Create a directory with hard links to the models' files and with these texts, or nothing."""
    target = model.with_name(model.name + suffix)
    try:
        work = Path(tempfile.mkdtemp(prefix=f"{target.name}.", dir=target.parent))
        try:
            _link_files(model, work, texts)
            if draft is not None:
                (work / DRAFT).mkdir()
                (work / DRAFT).chmod(0o755)
                _link_files(draft, work / DRAFT, {})
            for name, text in texts.items():
                (work / name).write_text(text)
            work.chmod(0o755)  # a container's user must be able to read it
            shutil.rmtree(target, ignore_errors=True)
            work.replace(target)
        finally:
            shutil.rmtree(work, ignore_errors=True)
    except OSError as error:
        raise UserError(
            f"{target}: expected to create links to the model's files there, found: "
            f"{error.strerror}; an engine of this study needs them: move the model to a directory "
            "that you may write to, or leave that engine out"
        ) from None
    return target


def _link_files(source: Path, target: Path, texts: Mapping[str, str]) -> None:
    for file in sorted(path for path in source.iterdir() if path.is_file()):
        if file.name not in texts:
            os.link(file.resolve(), target / file.name)
