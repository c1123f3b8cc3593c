import pytest

from enginebench.check import physics
from enginebench.check.physics import Shares
from enginebench.record.schema import Clocks, GpuMeter, Meters


@pytest.mark.parametrize(
    ("wall_s", "is_suspect"), [(100.0, False), (100.14, False), (100.16, True), (95.0, True)]
)
def test_two_clocks_may_differ_by_a_twentieth_and_a_thousandth(wall_s, is_suspect):
    ends = Clocks(t_s=0.0, wall_s=0.0), Clocks(t_s=100.0, wall_s=wall_s)
    assert [f.verdict for f in physics.clock_findings(*ends)] == ["suspect"] * is_suspect


def test_more_requests_in_flight_than_were_sent_breaks_littles_law():
    assert list(physics.load_findings(8.0, 8)) == []
    assert list(physics.load_findings(None, 8)) == []
    assert [f.verdict for f in physics.load_findings(8.1, 8)] == ["invalid"]


@pytest.mark.parametrize(
    ("shares", "expected"),
    [
        (Shares(), []),
        (Shares(1.0, 1.0, 1.0), []),
        (Shares(throughput=1.01), ["invalid"]),
        (Shares(decode=1.05, is_measured=True), ["suspect"]),
        (Shares(prefill=1.5, is_measured=True), ["suspect"]),
        (Shares(prefill=1.51, is_measured=True), ["invalid"]),
        (Shares(request=1.51, is_measured=True), ["invalid"]),
        (Shares(decode=1.97, is_measured=True), ["invalid"]),
        # The first token was held back and came with the next ones: no request was too fast.
        (Shares(decode=1.97, request=0.4, is_measured=True), ["suspect"]),
        (Shares(decode=1.97, request=1.2), ["invalid", "invalid"]),
    ],
)
def test_nothing_beats_its_ceiling(shares, expected):
    assert [finding.verdict for finding in physics.physics_findings(shares)] == expected


@pytest.mark.parametrize(
    ("peak", "capacity", "preemptions", "expected"),
    [
        (4096, 4096, 0, []),
        (4097, 4096, 0, ["suspect"]),
        (4097, 4096, None, ["suspect"]),
        (4097, 4096, 2, []),  # the preempted ones hold nothing
        (4097, None, 0, []),
        (None, 4096, 0, []),
    ],
)
def test_no_more_tokens_are_in_generation_than_the_cache_holds(
    peak, capacity, preemptions, expected
):
    found = physics.kv_findings(peak, capacity, preemptions)
    assert [finding.verdict for finding in found] == expected


def meters(t_s, *gpus):
    """Of GPUs that the record does not number, as in schema 1: joules and watts of each."""
    of_gpus = [GpuMeter(energy_j=e, power_limit_w=w) for e, w in gpus]
    return Meters(t_s=t_s, wall_s=t_s, gpus=of_gpus)


@pytest.mark.parametrize(
    ("started", "ended", "used_j", "expected"),
    [
        # Two GPUs of 300 W for 10 s: 6,000 J at most.
        (meters(0, (0, 300), (500, 300)), meters(10, (3000, 300), (3500, 300)), 6000, []),
        (meters(0, (0, 300), (500, 300)), meters(10, (3400, 300), (3500, 300)), 6400, ["suspect"]),
        (meters(0, (5000, 300)), meters(10, (100, 300)), -4900, ["suspect"]),  # the meter was reset
        (meters(0, (None, 300)), meters(10, (None, 300)), None, []),
        (meters(0, (0, None)), meters(10, (9000, None)), 9000, []),
        (meters(0), meters(10), None, []),
    ],
)
def test_gpus_draw_no_more_than_their_limit_allows(started, ended, used_j, expected):
    assert physics.energy_used_j(started, ended) == used_j
    found = physics.energy_findings(started, ended)
    assert [finding.verdict for finding in found] == expected


def test_only_the_engines_own_gpus_count_for_its_energy():
    def at(t_s, first_j, second_j):
        gpus = [GpuMeter(index=2, energy_j=first_j), GpuMeter(index=5, energy_j=second_j)]
        return Meters(t_s=t_s, wall_s=t_s, gpus=gpus)

    before, after = at(0.0, 0.0, 10.0), at(9.0, 700.0, 60.0)
    assert physics.energy_used_j(before, after, {5}) == 50.0
    assert physics.energy_used_j(before, after) == 750.0


def test_gpus_without_a_number_are_known_by_their_position():
    before, after = meters(0, (0, 300), (10, 300)), meters(9, (700, 300), (60, 300))
    assert physics.energy_used_j(before, after, {1}) == 50
