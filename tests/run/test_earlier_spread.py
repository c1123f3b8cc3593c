import json
from types import SimpleNamespace

import pytest

from enginebench.run import earlier_spread

MACHINE = {"cpu": "some", "cpus": 2, "memory_bytes": 1, "gpus": [{"name": "a", "driver": "1"}]}
THIS = SimpleNamespace(**MACHINE | {"gpus": [SimpleNamespace(name="a")]})


def record(results, name, started_at, spreads, machine=MACHINE):
    directory = results / name
    (directory / "derived").mkdir(parents=True)
    facts = {"started_at": started_at, "machine": machine}
    (directory / "study.json").write_text(json.dumps(facts))
    rows = [
        {"figure": "output_tokens_per_s", "spreads": [{"log_sd": sd, "df": df}]}
        for sd, df in spreads
    ]
    rows.append({"figure": "ttft_s_p50", "spreads": [{"log_sd": 9.0, "df": 9}]})
    (directory / "derived" / "metrics_data.json").write_text(json.dumps({"comparisons": rows}))


def test_the_newest_record_of_this_machine_counts_and_its_levels_are_pooled(tmp_path):
    record(tmp_path, "old", "2026-01-01", [(0.5, 4)])
    record(tmp_path, "new", "2026-02-01", [(0.03, 3), (0.05, 1)])
    record(tmp_path, "other", "2026-03-01", [(0.9, 4)], MACHINE | {"cpus": 64})
    found = earlier_spread.between_starts(tmp_path, THIS)
    # (3 · 0.03² + 1 · 0.05²) / 4 = 0.0013
    assert found.sd_log == pytest.approx(0.0013**0.5)
    assert (found.source, found.is_between_starts) == ("between the starts of new", True)


@pytest.mark.parametrize("spread", [(1e300, 2), (-1.0, 2), (0.5, -2), (1e308, 10**15)])
def test_a_spread_that_none_can_have_is_passed_over(tmp_path, spread):
    record(tmp_path, "forged", "2026-03-01", [spread])
    assert earlier_spread.between_starts(tmp_path, THIS) is None
    record(tmp_path, "good", "2026-01-01", [(0.1, 2)])
    assert earlier_spread.between_starts(tmp_path, THIS).sd_log == pytest.approx(0.1)


def test_a_record_of_single_starts_or_one_that_cannot_be_read_is_passed_over(tmp_path):
    record(tmp_path, "single", "2026-03-01", [(0.0, 0)])
    record(tmp_path, "damaged", "2026-02-01", [(0.5, 4)])
    (tmp_path / "damaged" / "derived" / "metrics_data.json").write_text("{")
    (tmp_path / "junk").mkdir()
    (tmp_path / "junk" / "study.json").write_text("[]")
    assert earlier_spread.between_starts(tmp_path, THIS) is None
    record(tmp_path, "good", "2026-01-01", [(0.1, 2)])
    assert earlier_spread.between_starts(tmp_path, THIS).sd_log == pytest.approx(0.1)


@pytest.mark.parametrize("other", [{"cpus": 4}, {"memory_bytes": 2}, {"gpus": []}, {"cpu": None}])
def test_a_record_of_other_processors_memory_or_gpus_is_passed_over(tmp_path, other):
    record(tmp_path, "other", "2026-03-01", [(0.9, 4)], MACHINE | other)
    assert earlier_spread.between_starts(tmp_path, THIS) is None
