"""A model in the form that an engine needs: without an end of sequence, or without links.

It is a directory beside the model: hard links to the model's files, which cost no room and hold in
a container that is shown this directory alone. Nothing in the model's directory changes. Without an
end of sequence, for engines that cannot be asked to ignore it, is a generation config of its own;
whether it had its effect is not believed but checked: a request that ends for another reason than
its length makes its cell invalid.
"""

import json
import os
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from enginebench.base.errors import UserError

CONFIG = "generation_config.json"


def edited(config: dict[str, Any]) -> dict[str, Any]:
    """A generation config that names no token as the end.

    An empty list, not a missing key: for that, engines fall back on the tokenizer's own token.
    """
    return config | {"eos_token_id": []}


def without_eos(model: Path) -> Path:
    """The directory beside ``model``, made anew, whose generation config names no end.

    Raises:
        UserError: it cannot be made there, or the generation config is not JSON.
    """
    file = model / CONFIG
    try:
        config = json.loads(file.read_text()) if file.exists() else {}
    except OSError as error:
        raise UserError(f"{file}: cannot be read ({error.strerror}); mend that") from None
    except ValueError as error:
        raise UserError(f"{file}: expected JSON, found: {error}; mend that file") from None
    text = json.dumps(edited(config), indent=2) + "\n"
    return _beside(model, ".without-eos", {CONFIG: text})


def without_links(model: Path) -> Path:
    """The model's directory, or if files in it are symbolic links, one beside it without any.

    The hub's cache is such: its links lead out of the directory, to nowhere in a container that is
    shown this directory alone.

    Raises:
        UserError: it cannot be made there.
    """
    has_links = any(path.is_symlink() for path in model.iterdir())
    return _beside(model, ".without-links", {}) if has_links else model


def _beside(model: Path, suffix: str, texts: Mapping[str, str]) -> Path:
    """Hard links to the model's files, and these files' texts, in a directory: whole or none."""
    target = model.with_name(model.name + suffix)
    try:
        work = Path(tempfile.mkdtemp(prefix=f"{target.name}.", dir=target.parent))
        try:
            for file in sorted(path for path in model.iterdir() if path.is_file()):
                if file.name not in texts:
                    os.link(file.resolve(), work / file.name)
            for name, text in texts.items():
                (work / name).write_text(text)
            work.chmod(0o755)  # a container's user must be able to read it
            shutil.rmtree(target, ignore_errors=True)
            work.replace(target)
        finally:
            shutil.rmtree(work, ignore_errors=True)
    except OSError as error:
        raise UserError(
            f"{target}: cannot make links to the model's files there ({error.strerror}); an engine "
            "of this study needs the model in that form: put the model where you may write beside "
            "it, or leave that engine out"
        ) from None
    return target
