import itertools

import pytest

from enginebench.plan import plan, study_file


def make(**changes):
    data = {
        "name": "small",
        "engines": [
            {"engine": "slow", "hint": {"start_s": 10, "tokens_per_s": {1: 10.0}}},
            {
                "engine": "fast",
                "workloads": ["many"],
                "hint": {"start_s": 60, "tokens_per_s": {1: 40.0, 16: 200.0}},
            },
            {"engine": "fast", "variant": "once", "trials": 1},
        ],
        "workloads": [
            {"name": "one", "prompt_tokens": 8, "output_tokens": 20, "concurrency": [1]},
            {
                "name": "many",
                "prompt_tokens": 8,
                "output_tokens": {"min": 10, "max": 30},
                "concurrency": [4, 16],
                "requests_per_stream": 3,
            },
        ],
        "trials": 3,
    }
    found = study_file.parse(data | changes, "x")
    return found, plan.make(found)


def test_every_trial_starts_each_variant_once():
    _, made = make()
    labels = {trial: [] for trial in (1, 2, 3)}
    for launch in made.launches:
        labels[launch.trial].append(launch.variant.label)
    assert sorted(labels[1]) == ["fast/default", "fast/once", "slow/default"]
    assert sorted(labels[2]) == sorted(labels[3]) == ["fast/default", "slow/default"]
    assert [launch.trial for launch in made.launches] == [1, 1, 1, 2, 2, 3, 3]


def test_a_launch_runs_its_workloads_at_every_concurrency():
    _, made = make()
    cells = {launch.variant.label: {cell.id for cell in launch.cells} for launch in made.launches}
    assert cells["slow/default"] == cells["fast/once"] == {"one-c1", "many-c4", "many-c16"}
    assert cells["fast/default"] == {"many-c4", "many-c16"}


def test_all_starts_of_a_trial_run_their_levels_in_one_order_that_differs_between_trials():
    _, made = make()
    orders = {}
    for launch in made.launches:
        order = [cell.id for cell in launch.cells if cell.workload.name == "many"]
        orders.setdefault(launch.trial, set()).add(tuple(order))
    assert all(len(found) == 1 for found in orders.values())
    firsts = [next(iter(found))[0] for found in orders.values()]
    assert set(firsts) == {"many-c4", "many-c16"}


def test_four_variants_in_four_trials_have_every_place_and_every_predecessor_once():
    variants = [{"engine": "fast", "variant": name} for name in "abcd"]
    _, made = make(engines=variants, trials=4)
    labels = [launch.variant.label for launch in made.launches]
    trials = [labels[at : at + 4] for at in (0, 4, 8, 12)]
    assert all(len(set(place)) == 4 for place in zip(*trials, strict=True))
    pairs = [pair for order in trials for pair in itertools.pairwise(order)]
    assert len(set(pairs)) == 12
    assert plan.balance_text(made) == (
        "Order: of 4 trials a variant has the same place in at most 1 and directly follows the "
        "same other in at most 1 (no order is more even); levels of load are balanced in the same "
        "way."
    )


def test_one_trial_or_one_variant_has_no_order_to_balance():
    assert plan.balance_text(make(trials=1)[1]) == ""
    assert plan.balance_text(make(engines=[{"engine": "fast"}])[1]) == ""


def test_cells_and_requests_are_counted():
    _, made = make()
    assert made.cells == 3 * 3 + 3 * 2 + 1 * 3
    # one-c1: 2 requests, many-c4: 12, many-c16: 48
    assert made.requests == 3 * 62 + 3 * 60 + 1 * 62


def test_ids_are_all_different():
    _, made = make()
    ids = [launch.id for launch in made.launches]
    assert len(set(ids)) == 7
    assert "trial2_fast_default" in ids


def test_launches_of_different_variants_have_different_ids():
    _, made = make(
        engines=[{"engine": "a-b", "variant": "c"}, {"engine": "a", "variant": "b-c"}], trials=1
    )
    assert len({launch.id for launch in made.launches}) == 2


def order(seed):
    return [launch.variant.label for launch in make(seed=seed)[1].launches]


def test_the_order_follows_from_the_seed_alone():
    assert order(1) == order(1)
    assert len({tuple(order(seed)) for seed in range(10)}) > 1


def test_the_order_differs_between_trials_too():
    variants = [{"engine": "fast", "variant": name} for name in "abcde"]
    launches = make(engines=variants, trials=4)[1].launches
    orders = {tuple(v.variant.label for v in launches[i : i + 5]) for i in (0, 5, 10, 15)}
    assert len(orders) > 1
    assert {tuple(sorted(found)) for found in orders} == {tuple(f"fast/{n}" for n in "abcde")}


@pytest.mark.parametrize(
    ("label", "estimate_s"),
    [
        # start, then (streams * 8 warm-up tokens + requests * mean length) / rate + 1 for each cell
        (
            "slow/default",
            10 + (8 + 2 * 20) / 10 + 1 + (32 + 12 * 20) / 10 + 1 + (128 + 960) / 10 + 1,
        ),
        # 4 is halfway from 1 to 16 on a logarithm: rate 120
        ("fast/default", 60 + (32 + 240) / 120 + 1 + (128 + 960) / 200 + 1),
    ],
)
def test_estimates_are_from_the_hints(label, estimate_s):
    _, made = make()
    launch = next(launch for launch in made.launches if launch.variant.label == label)
    assert plan.launch_estimate_s(launch) == pytest.approx(estimate_s)


def test_the_estimate_of_a_plan_is_the_sum_of_its_launches():
    _, made = make()
    assert made.estimate_s == pytest.approx(sum(map(plan.launch_estimate_s, made.launches)))


@pytest.mark.parametrize(("concurrency", "rate"), [(1, 50.0), (2, 50.0), (4, 75.0), (9, 100.0)])
def test_beyond_the_given_levels_a_rate_stays_as_it_is(concurrency, rate):
    workload = {"name": "w", "prompt_tokens": 8, "output_tokens": 100, "concurrency": [concurrency]}
    hint = {"start_s": 0, "tokens_per_s": {2: 50.0, 8: 100.0}}
    _, made = make(engines=[{"engine": "e", "hint": hint}], workloads=[workload], trials=1)
    assert made.estimate_s == pytest.approx(concurrency * (8 + 2 * 100) / rate + 1)


def test_output_lengths_are_drawn_once_for_all_engines():
    found, _ = make()
    fixed, drawn = found.workloads
    assert list(plan.output_lengths(fixed, 3, "any")) == [20, 20, 20]
    lengths = plan.output_lengths(drawn, 300, "a")
    assert set(lengths) == set(range(10, 31))
    assert lengths == plan.output_lengths(drawn, 300, "a")
    assert lengths != plan.output_lengths(drawn, 300, "b")


def test_answers_are_compared_on_the_first_start_only_and_counted_in_its_time():
    asked = {"prompts": 5, "prompt_tokens": 8, "output_tokens": 40}
    _, made = make(agreement=asked)
    cells = {launch.trial: launch.agreement for launch in made.launches}
    assert (cells[1].requests, cells[1].concurrency, cells[1].wants_ids) == (5, 1, True)
    assert cells[2] is None and cells[3] is None
    _, plain = make()
    more = made.estimate_s - plain.estimate_s
    # 5 answers of 40 tokens and a warm-up of 8, at 10 and twice at 40 tokens/s; a second each.
    assert more == pytest.approx(208 / 10 + 1 + 2 * (208 / 40 + 1))


def test_an_open_level_is_a_cell_of_its_own_that_lasts_as_its_schedule():
    open_loop = {"name": "w", "prompt_tokens": 8, "output_tokens": 10, "rate": [2, 50]}
    _, made = make(
        engines=[{"engine": "a"}], workloads=[open_loop | {"duration_s": 30, "ramp_s": 10}]
    )
    slow, fast = made.launches[0].cells
    assert [cell.id for cell in (slow, fast)] == ["w-r2", "w-r50"]
    assert [cell.requests for cell in (slow, fast)] == [60, 1500]
    assert [cell.warmups for cell in (slow, fast)] == [16, 16]
    # 60 requests at 2/s, half of the ramp, and a second; by its hint it makes 40 tokens/s.
    assert plan.cell_estimate_s(made.launches[0], slow) == pytest.approx(30 + 5 + 1, abs=0.01)
    assert plan.cell_estimate_s(made.launches[0], fast) > 1500 * 10 / 40
