import os
import sys

import pytest
from project import ROOT

from enginebench.base.errors import UserError
from enginebench.engines import directory
from enginebench.engines.interpolation import interpolate
from enginebench.launch import process

LAUNCH = """\
services:
  one:
    command: ["--model=${MODEL}", "--port=${PORT:-8000}", "--mode=${MODE:-naive}"]
    environment: {THREADS: $THREADS, EMPTY: null}
x-native:
  environment: {name: one, cpu: [[numpy]]}
  command: [python, server.py, "--cache=${CACHE_GIB:-1} $$HOME"]
"""
ENGINE = """\
from enginebench.engines.dialect import Dialect
DIALECT = Dialect("/generate", dict, str, {"requests_running": ("running",)})
"""
BARE = "services: {one: {image: x}}\n"


def put(root, name="one", launch_file=LAUNCH, code=ENGINE):
    (root / name).mkdir()
    (root / name / "launch.yaml").write_text(launch_file)
    if code is not None:
        (root / name / "engine.py").write_text(code)
    return root


def refusal(root, name="one"):
    with pytest.raises(UserError) as caught:
        directory.load_engine(root, name)
    assert "\n" not in caught.value.message
    return caught.value.message


VALUES = {"A": "1", "EMPTY": ""}


@pytest.mark.parametrize(
    ("text", "result"),
    [
        ("plain", "plain"),
        ("$$A", "$A"),
        ("$$${A}", "$1"),
        ("$A-$A", "1-1"),
        ("${A}B", "1B"),
        ("${NO}", ""),
        ("${A:-d}", "1"),
        ("${NO:-d}", "d"),
        ("${EMPTY:-d}", "d"),
        ("${NO-d}", "d"),
        ("${EMPTY-d}", ""),
        ("${NO:-}", ""),
        ("${NO:-a:b=-c}", "a:b=-c"),
        ("${A:?set it}", "1"),
        ("${EMPTY?set it}", ""),
        ("5$$", "5$"),
        ("$${A:+on}", "${A:+on}"),
    ],
)
def test_variables_are_filled_in_as_compose_does(text, result):
    assert interpolate(text, VALUES, "x") == result


@pytest.mark.parametrize(
    "text", ["${A:+on}", "${A+on}", "${B:-${A}}", "${B:?${A}}", "5$", "$1", "${}", "${A", "${A!x}"]
)
def test_a_form_that_compose_alone_would_replace_is_refused(tmp_path, text):
    with pytest.raises(UserError, match=r"^x: expected variables as .*not inside each other"):
        interpolate(text, VALUES, "x")
    launch = f"services: {{one: {{command: ['--a={text}']}}}}\n"
    assert "expected variables as" in refusal(put(tmp_path, launch_file=launch))


@pytest.mark.parametrize("text", ["${NO:?say which}", "${NO?say which}", "${EMPTY:?say which}"])
def test_a_required_variable_that_is_not_set_is_named(text):
    with pytest.raises(UserError, match=r"^one/launch\.yaml: (NO|EMPTY) must be set: say which$"):
        interpolate(text, VALUES, "one/launch.yaml")


def test_every_directory_with_a_launch_file_is_an_engine(tmp_path):
    assert directory.find_engines(tmp_path) == []
    for name in ("two", "one"):
        put(tmp_path, name)
    (tmp_path / "docs").mkdir()
    (tmp_path / "launch.yaml").touch()
    assert directory.find_engines(tmp_path) == ["one", "two"]


@pytest.mark.parametrize("name", directory.find_engines(ROOT))
def test_every_engine_of_this_repository_loads(name):
    engine = directory.load_engine(ROOT, name)
    assert {"MODEL", "PORT"} <= engine.variables
    assert engine.name == name


def test_an_engine_is_read_from_its_two_files(tmp_path):
    engine = directory.load_engine(put(tmp_path), "one")
    assert engine.flags == ("--model=${MODEL}", "--port=${PORT:-8000}", "--mode=${MODE:-naive}")
    assert engine.env == {"THREADS": "$THREADS"}
    assert engine.native.command == ["python", "server.py", "--cache=${CACHE_GIB:-1} $$HOME"]
    assert engine.dialect.metrics == {"requests_running": ("running",)}
    assert engine.variables == {"MODEL", "PORT", "MODE", "THREADS", "CACHE_GIB"}


def test_an_engine_named_like_a_package_hides_no_package(tmp_path):
    directory.load_engine(put(tmp_path, "numpy"), "numpy")
    import numpy

    assert hasattr(numpy, "ndarray")
    assert str(tmp_path) not in " ".join(sys.path)


def test_an_environment_may_be_a_list_of_lines(tmp_path):
    lines = "services: {one: {environment: [A=1, B=x=y, HF_TOKEN]}}\n"
    engine = directory.load_engine(put(tmp_path, launch_file=lines), "one")
    assert engine.env == {"A": "1", "B": "x=y"}
    assert engine.native is None


def test_a_launch_file_keeps_the_text_of_what_looks_like_a_number(tmp_path):
    text = """services: {one: {command: [-a, 010, -b, no, -c, 1:30, -d, 8, -e, true],
        environment: {A: 0.10, B: no, C: true, D: 1_000}}}\n"""
    engine = directory.load_engine(put(tmp_path, launch_file=text), "one")
    assert engine.flags == ("-a", "010", "-b", "no", "-c", "1:30", "-d", "8", "-e", "true")
    assert engine.env == {"A": "0.10", "B": "no", "C": "true", "D": "1_000"}


def test_a_pipe_in_place_of_a_launch_file_is_refused_and_not_waited_for(tmp_path):
    (tmp_path / "one").mkdir()
    os.mkfifo(tmp_path / "one" / "launch.yaml")
    assert "found a pipe" in refusal(tmp_path)


def test_an_unknown_engine_gets_the_nearest_and_the_list(tmp_path):
    put(put(tmp_path), "two")
    assert "did you mean 'one'? known engines: one, two" in refusal(tmp_path, "onee")
    assert refusal(tmp_path, "zzzzz").endswith(
        "(a directory with launch.yaml); known engines: one, two"
    )


@pytest.mark.parametrize(
    ("launch_file", "says"),
    [
        ("services: {one: {}, two: {}}\n", "with one service, found 2 services"),
        ("services: {}\n", "with one service, found 0 services"),
        ("services: null\n", "found no mapping under the key services"),
        ("", "expected a compose file with one service"),
        ("services: [\n", "launch.yaml:2: expected YAML, found: expected the node content"),
        ("services: [one]\n", "expected a compose file with one service"),
        ("image: x\n", "found no mapping under the key services"),
        ("- services\n", "found no mapping under the key services"),
        ("services: {one: 5}\n", "found a int in place of the service"),
        ("services: {one: {command: {a: b}}}\n", "found command: a dict"),
        ("services: {one: {command: [a, null]}}\n", "found command: a NoneType in place of a text"),
        ("services: {one: {command: [[a]]}}\n", "found command: a list in place of a text"),
        ("services: {one: {environment: {A: [1]}}}\n", "environment.A: a list in place of a text"),
        ("services: {one: {environment: [A=1, A=2]}}\n", "environment: a name twice"),
        ("services: {one: {environment: text}}\n", "found environment: text"),
        ("services: {one: {image: [x]}}\n", "found image: a list in place of a str"),
        (f"{BARE}x-dtype: 5\n", "found x-dtype: a int in place of a str"),
        (f"{BARE}x-native: {{command: [a]}}\n", "x-native.environment: Field required"),
        (f"{BARE}x-native: {{comand: [a]}}\n", "x-native.environment: Field required"),
        (f"{BARE}x-native: 5\n", "x-native: Input should be a valid dictionary"),
        ("services: {one: {image: x}, one: {image: y}}\n", "launch.yaml:1: expected plain YAML"),
        (f"{BARE}x-a: {'[' * 20_000}", "launch.yaml:2: expected plain YAML, found more than 50"),
        (f"{BARE}x-a: a\0b\n", "launch.yaml:2: expected a compose file of UTF-8 text, found a NUL"),
    ],
)
def test_a_launch_file_of_another_form_is_refused(tmp_path, launch_file, says):
    found = refusal(put(tmp_path, launch_file=launch_file))
    assert found.startswith(f"{tmp_path / 'one' / 'launch.yaml'}:")
    assert says in found


def test_a_command_written_as_a_string_is_split_into_words_as_a_shell_does(tmp_path):
    text = """services: {one: {command: "--model=a '--name=two words' --fast"}}\n"""
    engine = directory.load_engine(put(tmp_path, launch_file=text), "one")
    assert engine.flags == ("--model=a", "--name=two words", "--fast")


def test_a_command_with_a_quote_that_never_closes_is_refused(tmp_path):
    text = """services: {one: {command: "--model=a '--name=two"}}\n"""
    assert "No closing quotation" in refusal(put(tmp_path, launch_file=text))


@pytest.mark.parametrize(
    ("code", "says"),
    [
        (None, "expected the engine's dialect there, found no such file"),
        ("DIALECT = {'generate_path': '/g'}\n", "found dict"),
        (
            "dialect = 1\n",
            "expected a constant DIALECT of type enginebench.engines.dialect.Dialect",
        ),
        ("import nothing_of_this_name\n", "engine.py:1: expected a file that can be imported"),
        ("def f(:\n", "engine.py:1: expected a file that can be imported, found SyntaxError"),
        (ENGINE.replace("requests_running", "running"), "metrics: 'running' is none of our metric"),
    ],
)
def test_an_engine_file_without_a_good_dialect_is_refused(tmp_path, code, says):
    found = refusal(put(tmp_path, code=code))
    assert found.startswith(f"{tmp_path / 'one' / 'engine.py'}:")
    assert says in found


def test_a_setting_that_the_launch_file_uses_is_accepted(tmp_path):
    engine = directory.load_engine(put(tmp_path), "one")
    directory.check_settings({"MODE": "fast", "CACHE_GIB": 4}, engine.settings, "my.yaml")


@pytest.mark.parametrize(
    ("name", "advice"),
    [
        ("MODES", "did you mean 'MODE'?"),
        ("ZZZZZZ", "known: CACHE_GIB, MODE, THREADS"),
        ("PORT", "known: CACHE_GIB, MODE, THREADS"),  # the harness sets it
    ],
)
def test_a_setting_that_the_launch_file_does_not_use_is_named(tmp_path, name, advice):
    engine = directory.load_engine(put(tmp_path), "one")
    with pytest.raises(UserError) as caught:
        directory.check_settings({name: 1}, engine.settings, "my.yaml")
    assert caught.value.message.startswith(f"my.yaml: settings.{name}: no launch.yaml of these")
    assert caught.value.message.endswith(advice)


def test_the_further_keys_are_read_and_have_defaults(tmp_path):
    put(tmp_path, "plain")
    more = LAUNCH + "x-cpu-image: cpu:1.0\nx-without-end-of-sequence: true\n"
    put(tmp_path, "more", more)
    plain, more = (directory.load_engine(tmp_path, name) for name in ("plain", "more"))
    assert (plain.cpu_image, plain.without_eos) == (None, False)
    assert (more.cpu_image, more.without_eos) == ("cpu:1.0", True)


@pytest.mark.parametrize(
    ("more", "where"),
    [("", "only in a container on a GPU;"), ("x-cpu-image: cpu:1.0\n", "only in a container;")],
)
def test_an_engine_for_containers_only_is_refused_as_a_process_in_one_line(tmp_path, more, where):
    engine = directory.load_engine(put(tmp_path, "one", BARE + more), "one")
    with pytest.raises(UserError, match="no x-native key") as caught:
        process.recipe(engine)
    assert where in caught.value.message
    assert "\n" not in caught.value.message


@pytest.mark.parametrize(
    "key", ["x-cpu-image: 5", "x-cpu-image: [a]", "x-without-end-of-sequence: maybe"]
)
def test_a_further_key_of_another_kind_is_refused(tmp_path, key):
    assert key.partition(":")[0] in refusal(put(tmp_path, "one", LAUNCH + key + "\n"))
