"""What a started engine shows, against what its declared variants promise."""

import pytest
from project import ROOT

from enginebench.engines.directory import load_engine
from enginebench.engines.variants import Condition
from enginebench.run import resolved

LOG = "start\nconfig: mode=fast, level=2\nwarning: slow path\nconfig: mode=fast, level=3\n"
PAGE = """\
# TYPE cache gauge
cache{enabled="True",size="8"} 1.0
# TYPE used gauge
used{rank="0"} 3.0
used{rank="1"} 3.0
"""


@pytest.mark.parametrize(
    ("condition", "text", "expected"),
    [
        ({"log": "mode=fast"}, LOG, (True, "mode=fast")),
        ({"log": "^config.*=2$"}, LOG, (True, "config: mode=fast, level=2")),
        ({"log": "mode=eager"}, LOG, (False, "nothing like it")),
        ({"log": r"mode=(\w+)", "equals": "fast"}, LOG, (True, "fast")),
        ({"log": r"level=(\w+)", "equals": "3"}, LOG, (False, "2, 3")),  # everywhere, or not at all
        ({"log": r"depth=(\w+)", "equals": "3"}, LOG, (False, "nothing like it")),
        ({"no_log": "quantized"}, LOG, (True, "no such line")),
        ({"no_log": "slow"}, LOG, (False, "warning: slow path")),
        ({"metric": "cache[enabled]", "equals": "True"}, PAGE, (True, "True")),
        ({"metric": "cache[enabled]", "equals": "False"}, PAGE, (False, "True")),
        ({"metric": "cache[kind]", "equals": "False"}, PAGE, (False, "no such label")),
        ({"metric": "gone[kind]", "equals": "x"}, PAGE, (False, "no such metric")),
        ({"metric": "used", "equals": "3"}, PAGE, (True, "3")),
        ({"metric": "used", "equals": "4"}, PAGE, (False, "3")),
        ({"metric": "used", "equals": "many"}, PAGE, (False, "3")),
        ({"page": "/c", "has": r'"a":(\w+)', "equals": "true"}, '{"a":false}', (False, "false")),
        ({"page": "/c", "has": '"a":'}, '{"a":false}', (True, '"a":')),
    ],
)
def test_a_condition_is_judged_by_what_is_there(condition, text, expected):
    assert resolved.judge(Condition(**condition), text) == expected


VLLM = load_engine(ROOT, "vllm").declared
AS_IT_IS = [
    (name, condition)
    for name, variant in VLLM.items()
    for condition in variant.resolved
    if (condition.log or condition.metric) and name != "chunked-prefill"  # it is on by itself
]


@pytest.mark.parametrize(("name", "condition"), AS_IT_IS)
def test_no_condition_of_vllm_holds_of_one_that_was_started_as_it_is(name, condition):
    """Else it would say nothing. Log and page are those of real starts of version 0.32.0."""
    record = ROOT / "results" / "published" / "2026-11-26-cpu-sweep"
    log = (record / "raw" / "trial1_vllm_default" / "server.log").read_text()
    page = (ROOT / "tests" / "data" / "vllm-0.32.0" / "metrics.txt").read_text()
    holds, found = resolved.judge(condition, page if condition.metric else log)
    is_graphs_of_a_gpu = "cudagraph_mode" in (condition.log or "")  # a CPU has none in any case
    assert holds == is_graphs_of_a_gpu
    assert found not in ("nothing like it", "no such metric") or "\\w*" in (condition.log or "")
