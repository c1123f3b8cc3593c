"""Prices: published ones by name, none by default, and what follows for a study's costs."""

import re

import made_record
import msgspec
import pytest

from enginebench.base.errors import UserError
from enginebench.hardware import data_sheets, prices
from enginebench.hardware.prices import HourlyPrice
from enginebench.metrics import cost
from enginebench.plan import study_file
from enginebench.record import reading
from enginebench.report import build, narrative

DEVICES = [row["name"] for row in data_sheets.table("devices.yaml")]
ENTRIES = prices.prices()
FACTORS = {"alpha/a": (1.0,), "beta/b": (2.0,)}
L4, H100 = "NVIDIA L4", "NVIDIA H100 80GB HBM3"


def parsed(**price):
    minimal = {
        "name": "one",
        "engines": [{"engine": "alpha"}],
        "workloads": [
            {"name": "w", "prompt_tokens": 8, "output_tokens": 8, "concurrency": [1]},
        ],
    }
    return study_file.parse(minimal | ({"price": price} if price else {}), "one.yaml").price


@pytest.mark.parametrize("device", DEVICES)
def test_every_gpu_has_a_price_or_a_stated_reason_for_none(device):
    found = [entry for entry in ENTRIES if entry.gpu == device and not entry.is_stand_in]
    assert found
    assert all((entry.usd_per_gpu_hour is None) == bool(entry.reason) for entry in found)


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: entry.name)
def test_every_price_says_where_when_and_for_how_many_gpus(entry):
    assert entry.gpu in DEVICES
    assert re.fullmatch(r"20\d\d-\d\d-\d\d", entry.date)
    if entry.usd_per_gpu_hour is not None:
        assert all((entry.provider, entry.instance, entry.region, entry.source))
        assert entry.kind in ("on-demand", "spot")
        each = entry.usd_per_instance_hour / entry.gpus
        assert entry.usd_per_gpu_hour == pytest.approx(each, rel=1e-6)


def test_names_are_unique():
    assert len({entry.name for entry in ENTRIES}) == len(ENTRIES)


def test_a_study_without_a_price_has_none():
    assert parsed() is None


def test_a_published_price_is_taken_by_its_name():
    price = parsed(name="aws-g6.xlarge").hourly([L4])
    assert (price.usd_per_hour, price.is_per_gpu, price.is_stand_in) == (0.8048, True, False)
    assert all(word in price.source for word in ("AWS", "us-east-1", "on-demand", "2025-11-30"))


def test_two_gpus_cost_twice_and_a_machine_costs_what_it_costs():
    each = HourlyPrice(usd_per_hour=6.88, is_per_gpu=True, source="s", is_stand_in=False)
    whole = HourlyPrice(usd_per_hour=55.04, is_per_gpu=False, source="s", is_stand_in=False)
    assert [each.usd(count) for count in (0, 1, 2)] == [6.88, 6.88, 13.76]
    assert whole.usd(2) == 55.04


def test_the_price_of_the_older_study_is_always_a_stand_in():
    for gpus in ([L4], [H100], []):
        price = parsed(name="classic-l4").hourly(gpus)
        assert (price.usd_per_hour, price.is_stand_in) == (2.93, True)
    assert "provider not stated" in price.source


def test_the_price_of_another_gpu_is_refused_unless_it_is_a_stand_in():
    with pytest.raises(UserError, match=r"found aws-g6.xlarge, which is of L4; .*aws-p5.48xlarge"):
        parsed(name="aws-g6.xlarge").hourly([H100])
    assert parsed(name="aws-g6.xlarge", is_stand_in=True).hourly([H100]).is_stand_in
    with pytest.raises(UserError, match="no name"):
        parsed(name="aws-g6.xlarge").hourly([None])


def test_on_a_cpu_every_price_is_a_stand_in():
    assert parsed(usd_per_hour=1, source="ours").hourly([]).is_stand_in


@pytest.mark.parametrize(
    ("price", "words"),
    [
        ({"is_stand_in": True}, "expected one of `name`"),
        ({"name": "classic-l4", "usd_per_hour": 1, "source": "s"}, "expected one of `name`"),
        ({"usd_per_hour": 1}, "needs its `source`"),
        ({"name": "aws-g6.xlarg"}, "did you mean 'aws-g6.xlarge'?"),
        ({"name": "none-gaudi2"}, "expected a price of prices.yaml"),
        ({"name": "classic-l4", "source": "s"}, "leave `source` out"),
        ({"usd_per_gpu_hour": float("inf"), "source": "s"}, "finite"),
        ({"usd_per_gpu_hour": 0, "source": "s"}, "greater than 0"),
    ],
)
def test_a_price_that_is_none_is_refused_in_words(price, words):
    with pytest.raises(UserError) as caught:
        parsed(**price)
    assert words in str(caught.value)


def test_what_a_study_states_is_read_again_from_its_record():
    price = parsed(name="aws-g6.xlarge")
    assert parsed(**price.model_dump(mode="json")) == price


def test_advice_names_the_prices_of_the_gpu_that_is_there():
    assert "`price: {name: aws-g6.xlarge}`" in prices.advice([L4])
    assert "classic" not in prices.advice([L4])
    for gpus in ([None], ["NVIDIA RTX 4090"], []):
        assert "usd_per_gpu_hour" in prices.advice(gpus)


def gpu_study(tmp_path, price, gpus=1):
    """A record of a GPU machine: nothing was sampled, so every GPU of it counts."""
    directory = made_record.write(tmp_path / "study", FACTORS)
    about = directory / "study.json"
    facts = made_record.json.loads(about.read_text())
    facts["device"] = "cuda"
    facts["machine"]["gpus"] = [
        {"name": L4, "memory_bytes": 24 << 30, "driver": "1", "mig": False}
    ] * gpus
    facts["study"]["price"], facts["price"] = None, price
    about.write_text(made_record.json.dumps(facts))
    return directory


def costs_of(summary):
    return [cell.figures["usd_per_million_output_tokens"] for cell in summary.cells]


def test_a_gpu_study_without_a_price_prints_no_dollars(tmp_path):
    directory = gpu_study(tmp_path, None)
    summary = build.build(directory)
    assert set(costs_of(summary)) == {None}
    assert cost.recorded_price(summary.study) is None
    assert narrative.costs(summary) == [narrative.NO_PRICE]
    text = (directory / "derived" / "report.md").read_text()
    assert narrative.NO_PRICE in text
    assert "- Price: none stated" in text
    assert "2.93" not in text
    column = next(line.split("|") for line in text.splitlines() if "USD/M output" in line)
    place = [cell.strip() for cell in column].index("USD/M output")
    rows = [line.split("|") for line in text.splitlines() if line.startswith("| 1")]
    assert rows
    assert all(row[place].strip() == "–" for row in rows if len(row) == len(column))


def test_two_gpus_double_a_studys_costs(tmp_path):
    price = {"usd_per_hour": 0.8, "is_per_gpu": True, "source": "s", "is_stand_in": False}
    one = build.build(gpu_study(tmp_path / "one", price))
    two = build.build(gpu_study(tmp_path / "two", price, gpus=2))
    for single, double in zip(costs_of(one), costs_of(two), strict=True):
        assert double == pytest.approx(2 * single)


def test_a_record_from_before_prices_had_names_reads_the_same(tmp_path):
    stated = {"usd_per_hour": 2.93, "source": "one NVIDIA L4 on demand", "is_stand_in": False}
    study = reading.read_study(made_record.write(tmp_path / "made", FACTORS, price=stated))
    for device, is_stand_in in (("cuda", False), ("cpu", True)):
        price = cost.recorded_price(msgspec.structs.replace(study, device=device))
        assert (price.usd(2), price.is_stand_in) == (2.93, is_stand_in)
        assert price.text == "2.93 USD per hour (one NVIDIA L4 on demand)"
