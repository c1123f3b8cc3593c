import pytest
from builders import kv_row as row

from enginebench.engines import dialect
from enginebench.metrics import memory
from enginebench.metrics.memory import Sample
from enginebench.metrics.request_table import gather


def page(**values):
    return values


def sample(used, held, in_blocks=None, **changes):
    values = {"running": 1.0, "waiting": 0.0, "preemptions": 0.0} | changes
    return Sample(0.0, used, held, held if in_blocks is None else in_blocks, **values)


def test_a_sample_has_the_engines_count_beside_the_clients_at_the_same_moment():
    # One request: 10 + 1 - 1 tokens held from 1 s, 12 from 2 s, none from 4 s; blocks of 8.
    rows = [row([1.0, 2.0, 4.0], [1, 2, 1])]
    pages = [page(kv_used_ratio=r, kv_capacity_tokens=64.0, kv_block_tokens=8.0) for r in (0, 0.25)]
    found = memory.samples([0.5, 3.0], pages, gather(rows))
    assert [(s.used_tokens, s.held_tokens, s.held_in_blocks) for s in found] == [
        (0, 0, 0),
        (16, 12, 16),
    ]


@pytest.mark.parametrize(
    ("values", "tokens"),
    [
        ({"kv_used_tokens": 7.0, "kv_used_ratio": 0.5, "kv_capacity_tokens": 100.0}, 7.0),
        ({"kv_used_ratio": 0.5, "kv_capacity_tokens": 100.0}, 50.0),
        ({"kv_used_ratio": 0.5}, None),
        ({}, None),
    ],
)
def test_used_tokens_are_stated_or_a_share_of_the_capacity(values, tokens):
    assert memory.used_tokens(values) == tokens


@pytest.mark.parametrize(
    ("log", "tokens"),
    [
        ("INFO x\nINFO KV-cache blocks: 4000, size: 16\nINFO y", 64_000),
        ("INFO KV-cache blocks: many", None),
        (f"INFO KV-cache blocks: {'9' * 5000}, size: 16", None),
        ("INFO KV-cache blocks: 999999999999999999, size: 99999", None),
        ("", None),
    ],
)
def test_a_capacity_that_is_only_logged_is_blocks_times_their_size(log, tokens):
    assert dialect.capacity_in_log(r"KV-cache blocks: (\d+), size: (\d+)", log) == tokens
    assert dialect.capacity_in_log("", log) is None


def test_waste_is_what_is_used_and_nobody_needs():
    found = [sample(100, 90), sample(100, 50), sample(100, 75), sample(0, 0), sample(None, 5)] * 2
    assert memory.figures([], found, gather([]))["kv_waste"] == pytest.approx(0.25)  # the median


def test_the_two_curves_are_held_against_each_other_in_whole_blocks():
    found = [sample(128, 100, 128), sample(256, 140, 256), sample(512, 300, 384)] * 4
    # Distances 0, 0, 128: the median is 0; over the peak of 512.
    assert memory.figures([], found, gather([]))["kv_follow_error"] == 0
    found = [sample(128, 100, 0), sample(256, 140, 128), sample(512, 300, 384)] * 4
    assert memory.figures([], found, gather([]))["kv_follow_error"] == 0.25


def test_few_readings_say_nothing_of_peaks():
    few, enough = ([sample(100, 75)] * count for count in (9, 10))
    names = ("kv_used_tokens_peak", "kv_waste", "kv_follow_error")
    assert [memory.figures([], few, gather([]))[name] for name in names] == [None] * 3
    assert [memory.figures([], enough, gather([]))[name] for name in names] == [100, 0.25, 0.25]


def test_a_block_that_the_engine_keeps_for_itself_is_nobody_s_capacity():
    # 512 blocks of 128, one of them kept back; 64 of the other 511 in use.
    pool = page(kv_capacity_tokens=65536.0, kv_kept_back_tokens=128.0, kv_reserved_bytes=65536.0)
    used = pool | {"kv_used_ratio": 64 / 511}
    assert memory.used_tokens(used) == pytest.approx(64 * 128)
    found = memory.figures([used], [], gather([]))
    assert found["kv_capacity_tokens"] == 511 * 128
    assert found["kv_bytes_per_token_measured"] == 1  # the bytes are of all blocks


def test_bytes_a_token_are_those_of_the_pool_or_of_what_has_grown():
    pool = [page(kv_reserved_bytes=1 << 30, kv_capacity_tokens=32768.0)]
    assert memory.figures(pool, [], gather([]))["kv_bytes_per_token_measured"] == 32768
    grown = [
        page(kv_reserved_bytes=0.0, kv_used_tokens=0.0),
        page(kv_reserved_bytes=4096.0, kv_used_tokens=2.0),
        page(kv_reserved_bytes=40960.0, kv_used_tokens=10.0),
    ]
    assert memory.figures(grown, [], gather([]))["kv_bytes_per_token_measured"] == 4096
    assert memory.figures([page()], [], gather([]))["kv_bytes_per_token_measured"] is None


def test_only_who_waits_while_no_request_has_room_waits_for_room():
    pages = [page(kv_capacity_tokens=100.0, kv_block_tokens=8.0)]
    rows = [row([1.0], [1], prompt=10)]  # 14 tokens: two blocks of 8
    early = sample(50, 50, waiting=9.0)  # its turn has not come
    assert memory.figures(pages, [early], gather(rows))["waiting_for_room_peak"] == 0
    full = sample(85, 80, waiting=4.0)  # 15 left
    assert memory.figures(pages, [early, full], gather(rows))["waiting_for_room_peak"] == 4
    assert (
        memory.figures([page()], [full], gather(rows))["waiting_for_room_peak"] is None
    )  # no capacity


def test_an_account_adds_up_and_says_what_it_cannot_explain():
    assert memory.account(10e9, 2e9, 5e9) == {"weights_bytes": 2e9, "other_bytes": 3e9}
    assert memory.account(6e9, 2e9, 5e9)["other_bytes"] == -1e9  # pages nobody has touched
    assert memory.account(None, 2e9, 5e9)["other_bytes"] is None
    assert memory.account(6e9, None, 5e9)["other_bytes"] is None


def test_what_no_page_tells_is_none():
    found = memory.figures([page(), page()], [sample(None, 0)], gather([row([1.0], [1])]))
    assert {name for name, value in found.items() if value is not None} == set()
