"""Every path, Make verb and command that the documentation names is there."""

import re

import pytest
from project import ROOT, enginebench

PAGES = [
    "README.md",
    "CHANGELOG.md",
    "SECURITY.md",
    "results/README.md",
    *(str(p.relative_to(ROOT)) for p in sorted(ROOT.glob("docs/**/*.md"))),
]
PAGES += sorted(f"{path.parent.name}/README.md" for path in ROOT.glob("*/launch.yaml"))
#: Written by a study or by the reader, or inside an engine's environment: not part of the tree.
MADE = re.compile(r"^(\.venv|\.cache|derived|raw|results|figures|mine|/)|[<>*…{}$]|^\d|://")


def texts():
    return {page: (ROOT / page).read_text() for page in PAGES}


@pytest.mark.parametrize("page", PAGES)
def test_every_link_and_path_leads_to_a_file(page):
    text = (ROOT / page).read_text()
    links = [link.partition("#")[0] for link in re.findall(r"\]\(([^)\s]+)\)", text)]
    paths = re.findall(r"`([\w.-]+/[\w./-]+\.[a-z]+)`", text)
    for path in [*filter(None, links), *paths]:
        if not MADE.search(path):
            assert ((ROOT / page).parent / path).exists() or (ROOT / path).exists(), path


def test_every_make_verb_is_in_the_makefile():
    makefile = (ROOT / "Makefile").read_text()
    engines = sorted(path.parent.name for path in ROOT.glob("*/launch.yaml"))
    verbs = set(re.findall(r"^([a-z][\w-]*):", makefile, re.M))
    verbs |= {f"{verb}-{engine}" for verb in ("bench", "kv") for engine in [*engines, "mine"]}
    for page, text in texts().items():
        for verb in re.findall(r"(?:`|^)make ([a-z][\w-]*)(?![\w<-])", text, re.M):
            assert verb in verbs, (page, verb)


def test_every_command_of_the_program_is_one():
    helped = enginebench("--help", cwd=ROOT).stdout
    for page, text in texts().items():
        for verb in re.findall(r"`(?:\.venv/bin/)?enginebench ([a-z]+)", text):
            assert re.search(rf"\b{verb}\b", helped), (page, verb)
