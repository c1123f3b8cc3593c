import pytest
from hypothesis import given
from hypothesis import strategies as st

from enginebench.metrics import metrics_page

PAGE = """\
# HELP run Requests running.
# TYPE run gauge
run{model="a",rank="0"} 2.0
run{model="a",rank="1"} 3.0
# TYPE made counter
made_total{model="a"} 1e3
# TYPE kv gauge
kv NaN
# TYPE wait histogram
wait_bucket{le="1.0"} 4
wait_bucket{le="+Inf"} 6
wait_sum 9.5
wait_count 6
"""
OUT = "output_tokens_total"
METRICS = {
    "requests_running": ("run",),
    "requests_waiting": ("queue",),
    "output_tokens_total": ("generated_total", "made_total"),
    "kv_used_ratio": ("kv",),
}


def scrape(text, status=200):
    return {"t_s": 0.0, "status": status, "text": text, "error": None}


def read(scrape, names):
    return metrics_page.read(scrape["status"], scrape["text"], names)


def test_a_page_is_read_into_our_names():
    assert read(scrape(PAGE), METRICS) == {
        "requests_running": 5.0,  # both ranks
        "requests_waiting": None,  # not on the page
        "output_tokens_total": 1000.0,  # by its second name
        "kv_used_ratio": None,  # not a number is no measurement
    }


def test_the_first_name_that_is_present_is_read_even_if_it_is_zero():
    page = "generated_total 0\nmade_total 5\n"
    assert read(scrape(page), METRICS)["output_tokens_total"] == 0.0


@pytest.mark.parametrize("page", [None, "", "<html><body>404</body></html>", '{"error": 1}'])
def test_a_metric_that_is_absent_is_none_not_zero(page):
    assert read(scrape(page), METRICS) == dict.fromkeys(METRICS)


def test_a_page_that_is_not_a_200_is_not_read():
    assert read(scrape(PAGE, 500), METRICS) == dict.fromkeys(METRICS)
    assert read(scrape(None, None), METRICS) == dict.fromkeys(METRICS)


def test_a_histogram_gives_its_sum_and_count():
    samples = {sample.name: sample.value for sample in metrics_page.parse(PAGE)}
    assert (samples["wait_sum"], samples["wait_count"]) == (9.5, 6)


def test_a_broken_page_gives_what_precedes_the_break():
    samples = metrics_page.parse('run 1\nmade_total 2\nkv{model="a\nrest 4\n')
    assert [(sample.name, sample.value) for sample in samples] == [("run", 1), ("made_total", 2)]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("config[size_tokens]", 48),
        ("config[blocks]*config[block_size]", 48),
        ("config[blocks]*config[absent]", None),
        ("config[policy]", None),  # not a number
        ("other[blocks]", None),
    ],
)
def test_a_number_that_stands_in_a_label_is_read_too(name, value):
    page = 'config{size_tokens="48",blocks="3",block_size="16",policy="fcfs"} 1\n'
    assert read(scrape(page), {"kv_capacity_tokens": (name,)}) == {"kv_capacity_tokens": value}


#: Two engines behind one address, one twice as large as the other.
SIDE_BY_SIDE = """\
use{engine="0",model="m"} 0.9
use{engine="1",model="m"} 0.3
config{engine="0",block="16",blocks="1001",bytes="100"} 1
config{engine="1",block="16",blocks="2001",bytes="None"} 1
run{engine="0"} 3
run{engine="1"} 4
"""
SIDE_BY_SIDE_NAMES = {
    "requests_running": ("run",),
    "kv_used_ratio": ("use",),
    "kv_capacity_tokens": ("config[blocks]*config[block]",),
    "kv_block_tokens": ("config[block]",),
    "kv_reserved_bytes": ("config[bytes]",),
}


def test_engines_side_by_side_have_one_block_size_and_a_share_of_both_caches():
    assert metrics_page.read(200, SIDE_BY_SIDE, SIDE_BY_SIDE_NAMES, kept_back=1) == {
        "requests_running": 7,
        "kv_used_ratio": pytest.approx((0.9 * 16_000 + 0.3 * 32_000) / 48_000),
        "kv_capacity_tokens": 3_002 * 16,  # block by block, not sum times sum
        "kv_block_tokens": 16,
        "kv_reserved_bytes": None,  # one of them does not say
        "kv_kept_back_tokens": 2 * 16,  # a block each
    }


def test_shares_of_caches_of_unknown_size_are_averaged():
    page = 'use{engine="0"} 0.9\nuse{engine="1"} 0.3\n'
    found = metrics_page.read(200, page, SIDE_BY_SIDE_NAMES)
    assert (found["kv_used_ratio"], found["kv_capacity_tokens"]) == (pytest.approx(0.6), None)


def test_block_sizes_that_differ_are_no_block_size():
    page = 'config{engine="0",block="16"} 1\nconfig{engine="1",block="32"} 1\n'
    assert metrics_page.read(200, page, SIDE_BY_SIDE_NAMES)["kv_block_tokens"] is None


def test_a_sum_with_a_part_that_is_no_number_is_not_measured():
    page = 'run{engine="0"} 3\nrun{engine="1"} NaN\n'
    assert metrics_page.read(200, page, SIDE_BY_SIDE_NAMES)["requests_running"] is None


ITERATIONS = """[
 {"iter": 1, "numActiveRequests": 9},
 {"iter": 2, "numActiveRequests": 4, "flag": true, "timestamp": "12:00",
  "kv": {"used": 10, "tokensPerBlock": 32, "rate": NaN}}
]"""


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("numActiveRequests", 4),  # of the last iteration
        ("kv.used*kv.tokensPerBlock", 320),
        ("kv.rate", None),
        ("kv", None),
        ("flag", None),
        ("timestamp", None),
        ("kv.used*kv.free", None),
    ],
)
def test_a_page_of_iterations_in_json_gives_the_last_one(name, value):
    found = read(scrape(ITERATIONS), {"requests_running": (name,)})
    assert found == {"requests_running": value}


@pytest.mark.parametrize(
    "page",
    [
        "[]",
        "[1]",
        "[{",
        '[{"numActiveRequests": 1}',
        "[null]",
        '[{"a": 1' + "0" * 400 + "}]",
        "[" * 100_000,
    ],
)
def test_a_json_page_that_is_empty_or_broken_gives_nothing(page):
    names = {"requests_running": ("numActiveRequests",)}
    assert read(scrape(page), names) == {"requests_running": None}


NAMES = st.sampled_from(["a", "bc", "run", "made_total", "kv_used"])


@given(
    st.lists(st.tuples(NAMES, st.integers(0, 10**9)), max_size=4, unique_by=lambda pair: pair[0]),
    st.text(st.sampled_from('ab_{}"\\=, 1.#+e\n:'), max_size=30),
)
def test_whatever_a_page_ends_in_the_lines_before_it_are_read(lines, rest):
    page = "".join(f"{name} {value}\n" for name, value in lines)
    found = [(sample.name, sample.value) for sample in metrics_page.parse(page + rest)]
    assert found[: len(lines)] == lines


@pytest.mark.parametrize(
    ("first", "last", "grown"),
    [
        ({"x": 3.0}, {"x": 10.0}, 7.0),
        ({"x": 3.0}, {"x": 3.0}, 0.0),
        ({"x": 10.0}, {"x": 3.0}, None),  # reset
        ({"x": None}, {"x": 3.0}, None),
        ({}, {"x": 3.0}, None),
        ({"x": 3.0}, {}, None),
    ],
)
def test_a_counter_grows_or_says_nothing(first, last, grown):
    assert metrics_page.difference(first, last, "x") == grown


def test_a_look_at_some_metrics_is_what_the_whole_page_says():
    names = {name: METRICS[name] for name in ("requests_running", "output_tokens_total")}
    whole = read(scrape(PAGE), METRICS)
    assert metrics_page.gauges(200, PAGE, names) == {name: whole[name] for name in names}


def test_a_look_at_a_json_page_is_what_it_says():
    page = '[{"run": 1}, {"run": 4}]'
    assert metrics_page.gauges(200, page, {"requests_running": ("run",)}) == {
        "requests_running": 4.0
    }
    assert metrics_page.gauges(None, None, {"kv_used_ratio": ("run",)}) == {"kv_used_ratio": None}


@pytest.mark.parametrize(
    "page",
    [
        "[" * 100_000,
        '[{"a":' * 100_000,
        '[{"a": 1' + "0" * 400 + "}]",  # beyond any float
    ],
    ids=["brackets", "objects", "digits"],
)
def test_a_page_of_endless_depth_or_size_measures_nothing(page):
    assert metrics_page.parse(page) == []


@pytest.mark.parametrize(
    "line",
    [
        'run{a="1", ="x"} 1',  # the parser stumbles with an IndexError
        "run 1" + "0" * 400,  # beyond any float
        "other 1" + "0" * 400 + "\nrun 5",
        "run 1 1" + "0" * 400,
        "run 1e400",
        "run -3",
        "run 1e300",
        "run 1" + "0" * 5000,
        'run{a="' + "\\" * 9001 + '"} 1',
        "run{" + "".join(f'a{n}="",' for n in range(9000)) + "} 1",
        "\n".join(["run 1e308"] * 20),
        "\n".join(f'run{{i="{n}"}} 1' for n in range(2000)),
        "#\n" * 300_000 + "run 5",
    ],
    ids=range(13),
)
def test_a_line_that_no_engine_prints_measures_nothing_and_stops_nothing(line):
    page = f"made_total 7\n{line}\n"
    found = read(scrape(page), {"requests_running": ("run",), "output_tokens_total": METRICS[OUT]})
    assert found[OUT] == 7.0
    assert found["requests_running"] in (None, 5.0)
    assert metrics_page.gauges(200, page, {"requests_running": ("run",)}) in (
        {"requests_running": None},
        {"requests_running": 5.0},
    )


@pytest.mark.parametrize("name", ["info[a]*info[b]", "info[a]", "a*b"])
def test_labels_and_products_of_absurd_size_are_no_figure(name):
    page = f'info{{a="1e308",b="{"9" * 500}"}} 1\na 1e200\nb 1e200\n'
    assert read(scrape(page), {"kv_capacity_tokens": (name,)}) == {"kv_capacity_tokens": None}


@given(st.text(st.sampled_from('ab_{}"\\=, 1.#+-e\n:~NaInf'), max_size=60), st.text(max_size=20))
def test_whatever_a_page_is_every_figure_is_a_possible_number_or_none(odd, any_text):
    names = {
        "requests_running": ("a",),
        "kv_used_ratio": ("b",),
        "kv_block_tokens": ("a[b]",),
        "kv_capacity_tokens": ("a[a]*b[b]", "a*b"),
    }
    for page in (odd, any_text, f"[{odd}]", f'[{{"a": 1{odd}}}]', f"{odd}\na 1\n{any_text}"):
        for look in (metrics_page.read, metrics_page.gauges):
            found = look(200, page, names)
            assert all(value is None or 0 <= value <= 2**63 for value in found.values())
