"""The directory called vllm must never answer to `import vllm`, and dependencies point one way."""

import ast
import importlib.util
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from project import ROOT

PACKAGE = ROOT / "src" / "enginebench"
ENGINES = sorted(path.parent for path in ROOT.glob("*/launch.yaml"))
FIXED_NAMES = ["baseline", "tgi", "vllm", "trtllm", "results", "compose"]


def scripts():
    return [path for directory in ENGINES for path in sorted(directory.glob("*.py"))]


def imported(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            yield node.module


def test_the_top_level_names_are_there():
    for name in [*FIXED_NAMES, "prompts.txt", "Makefile", "README.md"]:
        assert (ROOT / name).exists(), name


@pytest.mark.parametrize("name", FIXED_NAMES)
def test_no_engine_directory_is_a_package(name):
    assert not (ROOT / name / "__init__.py").exists()


@pytest.mark.parametrize("flags", [["-P"], []], ids=["safe path", "the Makefile's variable"])
def test_vllm_found_from_the_root_is_never_our_directory(flags):
    code = (
        "import importlib.util; spec = importlib.util.find_spec('vllm'); "
        "print(spec and [spec.origin, *(spec.submodule_search_locations or [])])"
    )
    env = {"PATH": "/usr/bin:/bin", "PYTHONSAFEPATH": "1"}
    done = subprocess.run(
        [sys.executable, *flags, "-c", code], cwd=ROOT, env=env, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert str(ROOT / "vllm") not in done.stdout


def test_the_makefile_closes_the_path_for_everything_it_starts():
    text = (ROOT / "Makefile").read_text()
    assert re.search(r"^export PYTHONSAFEPATH := 1$", text, re.M)
    assert re.search(r"^unexport PYTHONPATH$", text, re.M)


def test_the_tests_themselves_do_not_see_our_directory():
    spec = importlib.util.find_spec("vllm")
    assert spec is None or str(ROOT) not in str(spec.submodule_search_locations)
    assert not (ROOT / "conftest.py").exists()
    assert not (ROOT / "tests" / "__init__.py").exists()


@pytest.mark.parametrize("path", scripts(), ids=lambda path: f"{path.parent.name}/{path.name}")
def test_no_engine_script_is_named_like_a_module(path):
    assert path.stem not in sys.stdlib_module_names
    assert importlib.util.find_spec(path.stem) is None


@pytest.mark.parametrize("path", scripts(), ids=lambda path: f"{path.parent.name}/{path.name}")
def test_engine_scripts_import_the_package_and_the_standard_library_only(path):
    if path.name == "server.py":  # it runs in the engine's own environment
        assert not any(name.startswith("enginebench") for name in imported(path))
        return
    roots = {name.partition(".")[0] for name in imported(path)}
    assert roots <= {"enginebench", *sys.stdlib_module_names}


@pytest.mark.parametrize("path", sorted((ROOT / "src").rglob("*.py")), ids=lambda path: path.name)
def test_the_package_names_no_engine(path):
    tree = ast.parse(path.read_text())
    assert engines_named(tree) - ALLOWED.get(path.name, set()) == set()


@pytest.mark.parametrize(
    "code",
    [
        "x = 'vllm'",
        "x = f'{a} needs TensorRT-LLM'",
        "x = 'use the baseline here'",
        "def f():\n    g('see tgi/README.md')",
        "import vllm.config",
        "from trtllm import engine",
    ],
)
def test_an_engine_named_anywhere_in_code_is_seen(code):
    assert engines_named(ast.parse(code))


@pytest.mark.parametrize(
    "code", ['"""As vLLM does it."""', "x = 1  # as vLLM", "def f():\n    'of vLLM'", "x = 'base'"]
)
def test_an_engine_named_in_prose_is_no_matter(code):
    assert engines_named(ast.parse(code)) == set()


#: File -> engines whose names stand there for something else.
ALLOWED = {
    "other_tools.py": {"vllm"},  # a load generator, `vllm bench serve`
    "client_tables.py": {"vllm"},
}
NAMED = re.compile(
    rf"\b({'|'.join(sorted(directory.name for directory in ENGINES))}|tensorrt[-_ ]?llm)\b", re.I
)


def engines_named(tree):
    """Engines in strings and imports, in small letters. Comments and docstrings do not count."""
    docstrings = {
        id(node.body[0].value)
        for node in ast.walk(tree)
        if isinstance(node, ast.Module | ast.FunctionDef | ast.ClassDef)
        and node.body
        and isinstance(node.body[0], ast.Expr)
    }
    texts = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            texts += [] if id(node) in docstrings else [node.value]
        elif isinstance(node, ast.Import | ast.ImportFrom):
            texts.append(getattr(node, "module", None) or node.names[0].name)
    return {match[0].lower() for text in texts for match in NAMED.finditer(text)}


@pytest.mark.parametrize("directory", ENGINES, ids=lambda path: path.name)
def test_every_engine_directory_has_the_same_files(directory):
    for name in ("README.md", "launch.yaml", "engine.py", "metrics.py", "kv_cache.py"):
        assert (directory / name).is_file(), f"{directory.name}/{name}"


def test_a_fresh_shell_in_the_root_imports_the_package(tmp_path):
    done = subprocess.run(
        [sys.executable, "-P", "-c", "import enginebench; print(enginebench.__file__)"],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert Path(done.stdout.strip()).is_relative_to(ROOT / "src")


@pytest.mark.parametrize(
    ("file", "line", "broken"),
    [
        ("base/text.py", "", None),
        ("base/text.py", "from enginebench.plan import plan", "Stages import one way only"),
        ("run/resume.py", "from enginebench.report import tables", "Stages import one way only"),
        ("new/__init__.py", "", "Stages import one way only"),  # a package without a stage
        ("report/build.py", "import docker", "A report needs no Docker"),
    ],
    ids=["as it is", "upward", "sideways", "no stage", "docker"],
)
def test_an_import_against_the_rule_is_refused(tmp_path, file, line, broken):
    shutil.copytree(ROOT / "src", tmp_path / "src")
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    planted = tmp_path / "src" / "enginebench" / file
    planted.parent.mkdir(exist_ok=True)
    with planted.open("a") as text:
        text.write(f"\n{line}\n")
    done = subprocess.run(
        [Path(sys.executable).parent / "lint-imports", "--no-cache"],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(tmp_path / "src")},
        capture_output=True,
        text=True,
    )
    assert done.returncode == (broken is not None), done.stdout + done.stderr
    if broken:
        assert re.search(rf"^{broken}.* BROKEN$", done.stdout, re.M)
    else:
        assert "2 kept, 0 broken" in done.stdout


@pytest.mark.parametrize("path", sorted(PACKAGE.glob("*/**/__init__.py")), ids=str)
def test_no_package_imports_anything_by_being_imported(path):
    assert path.read_text() == ""


def test_every_module_and_file_that_a_string_names_is_there():
    """Imports that no checker sees: ``python -m``, resources, templates, and addresses."""
    modules, files = set(), set()
    for path in PACKAGE.rglob("*.py"):
        text = path.read_text()
        modules |= set(re.findall(r'"-m",\s*"(enginebench[\w.]*)"', text))
        modules |= set(re.findall(r'PackageLoader\("([\w.]+)"', text))
        for package, name in re.findall(
            r'resources\.files\("([\w.]+)"\)\s*\.joinpath\("([^"]+)"', text
        ):
            files.add(f"{package.replace('.', '/')}/{name}")
    modules |= {
        name.partition(":")[0]
        for name in re.findall(
            r'^enginebench = "(.+)"$', (ROOT / "pyproject.toml").read_text(), re.M
        )
    }
    for engine in ENGINES:
        for script in engine.glob("*.py"):
            modules |= {name for name in imported(script) if name.startswith("enginebench")}
    assert {"enginebench", "enginebench.cli.app", "enginebench.cli.scripts"} <= modules
    assert {f"enginebench/{name}" for name in ("hardware/probe.py", "kit/host.py")} <= files
    assert [name for name in modules if importlib.util.find_spec(name) is None] == []
    assert [name for name in files if not (ROOT / "src" / name).exists()] == []
