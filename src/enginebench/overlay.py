"""A model without an end of sequence, for engines that cannot be asked to ignore it.

It is a directory beside the model: hard links to the model's files, which cost no room and hold in
a container that is shown this directory alone, and a generation config of its own. Nothing in the
model's directory changes. Whether it had its effect is not believed but checked: a request that
ends for another reason than its length makes its cell invalid.
"""

import json
import os
import shutil
import tempfile
from pathlib import Path
from typing import Any

from enginebench.errors import UserError

CONFIG = "generation_config.json"
SUFFIX = ".without-eos"


def edited(config: dict[str, Any]) -> dict[str, Any]:
    """A generation config that names no token as the end.

    An empty list, not a missing key: for that, engines fall back on the tokenizer's own token.
    """
    return config | {"eos_token_id": []}


def without_eos(model: Path) -> Path:
    """The directory beside ``model``, made anew: whole or not at all.

    Raises:
        UserError: it cannot be made there, or the generation config is not JSON.
    """
    target = model.with_name(model.name + SUFFIX)
    try:
        config = json.loads((model / CONFIG).read_text()) if (model / CONFIG).exists() else {}
        work = Path(tempfile.mkdtemp(prefix=f"{target.name}.", dir=target.parent))
        try:
            for file in sorted(path for path in model.iterdir() if path.is_file()):
                if file.name != CONFIG:
                    os.link(file.resolve(), work / file.name)
            (work / CONFIG).write_text(json.dumps(edited(config), indent=2) + "\n")
            work.chmod(0o755)  # a container's user must be able to read it
            shutil.rmtree(target, ignore_errors=True)
            work.replace(target)
        finally:
            shutil.rmtree(work, ignore_errors=True)
    except OSError as error:
        raise UserError(
            f"{target}: cannot make links to the model's files there ({error.strerror}); an engine "
            "of this study needs the model without its end of sequence: put the model where you "
            "may write beside it, or leave that engine out"
        ) from None
    except ValueError as error:
        raise UserError(
            f"{model / CONFIG}: expected JSON, found: {error}; mend that file"
        ) from None
    return target
