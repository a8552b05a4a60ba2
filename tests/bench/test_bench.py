"""The arithmetic of the benchmark: what load generators print, medians, ratios and goals. Starts nothing."""

from itertools import pairwise
from pathlib import Path

import pytest

from bench.catalogue import APPLICATIONS, SCENARIOS
from bench.load import LoadError, check_h2load, read_wrk
from bench.quiet import measure_quietly
from bench.record import Record, load
from bench.report import tables
from bench.sample import Sample, percentile
from bench.scenario import Goal, Scenario
from bench.session import Outcome
from bench.usage import OTHERS, Usage

MACHINE = {"at": "now", "commit": "", "cores": 2, "memory_bytes": 2**34, "python": "3.11", "load_average": 0.0}

WRK = """\
  Latency Distribution
     50%  812.00us
     75%    1.10ms
     90%    2.00ms
     99%    1.20s
  4500 requests in 2.00s, 650.00KB read
Requests/sec:   2250.00
"""

H2LOAD = """\
requests: {n} total, {n} started, {n} done, {n} succeeded, 0 failed, 0 errored, 0 timeout
traffic: 4.00KB (4096) total, 1.00KB (1024) headers (space savings 90%), 1.17KB ({data}) data
"""


def usage_with(others: float) -> dict[str, Usage]:
    return {"replica": Usage(1.0 - others, 0, 1), OTHERS: Usage(others, 0, 0)}


def row(text: str, name: str) -> list[str]:
    return next(line for line in text.splitlines() if line.startswith(name)).split()


def test_percentile_is_the_nearest_rank() -> None:
    assert percentile([1.0, 2.0, 3.0, 4.0], 50) == 2.0
    assert percentile([float(n) for n in range(1, 101)], 99) == 99.0


def test_wrk_latencies_are_read_in_any_unit() -> None:
    sample = read_wrk(WRK)
    assert (sample.value, sample.p50_ms, sample.p99_ms, sample.count) == (2250.0, 0.812, 1200.0, 4500)


def test_wrk_with_error_answers_is_a_failure() -> None:
    with pytest.raises(LoadError, match="Non-2xx or 3xx responses: 7"):
        read_wrk(WRK + "  Non-2xx or 3xx responses: 7\n")


def test_grpc_replies_without_a_body_are_failures() -> None:
    check_h2load(H2LOAD.format(n=100, data=1200), reply_bytes=12)
    with pytest.raises(LoadError, match="more than the 0 bytes received"):
        check_h2load(H2LOAD.format(n=100, data=0), reply_bytes=12)


def test_every_scenario_has_a_name_of_its_own_and_an_application_that_exists() -> None:
    assert len({scenario.name for scenario in SCENARIOS}) == len(SCENARIOS)
    assert {scenario.application for scenario in SCENARIOS if scenario.application} <= APPLICATIONS.keys()


def test_scenarios_of_one_session_stand_together() -> None:
    sessions = [scenario.session for scenario in SCENARIOS]
    assert len([a for a, b in pairwise(sessions) if a != b]) == len(set(sessions)) - 1


def test_ratio_is_of_medians_and_says_whether_the_goal_is_met() -> None:
    scenario = Scenario("calls", lambda system, seconds: Sample(0), goal=Goal(2.5))
    record = Record(MACHINE, ["calls"])
    for value in (900.0, 3000.0, 100.0):
        record.add(Outcome("meshserve", "calls", Sample(value, 1.0, 2.0, 10)))
    record.add(Outcome("ray-fast", "calls", Sample(300.0, 3.0, 4.0, 10)))
    text = tables(record, [scenario], ["meshserve", "ray-fast"], None)
    assert row(text, "calls")[2:] == ["900", "1.00", "2.00", "300", "3.00", "4.00", "3.00", "2.5", "x", "fast", "yes"]


def test_each_mode_of_ours_has_its_ratio_and_its_verdict() -> None:
    scenario = Scenario("calls", lambda system, seconds: Sample(0), goal=Goal(3))
    record = Record(MACHINE, ["calls"])
    for target, value in (("meshserve", 200.0), ("meshserve-fast", 400.0), ("ray-fast", 100.0)):
        record.add(Outcome(target, "calls", Sample(value)))
    text = tables(record, [scenario], ["meshserve", "meshserve-fast", "ray-fast"], None)
    assert row(text, "calls")[11:] == ["2.00", "4.00", "3", "x", "fast", "no", "yes"]


def test_less_is_better_for_seconds() -> None:
    scenario = Scenario("start", lambda system, seconds: Sample(0), unit="s", goal=Goal(2))
    record = Record(MACHINE, ["start"])
    record.add(Outcome("meshserve", "start", Sample(4.0)))
    record.add(Outcome("ray-fast", "start", Sample(5.0)))
    cells = row(tables(record, [scenario], ["meshserve", "ray-fast"], None), "start")
    assert cells[8] == "1.25"
    assert cells[-1] == "no"


def test_error_stands_on_its_row_and_in_full_below() -> None:
    scenario = Scenario("big", lambda system, seconds: Sample(0), goal=Goal(3))
    record = Record(MACHINE, ["big"])
    record.add(Outcome("meshserve", "big", Sample(1.0)))
    record.add(Outcome("ray-fast", "big", error="message larger than max (50000771 vs. 4194304)"))
    text = tables(record, [scenario], ["meshserve", "ray-fast"], None)
    assert "message larger than max" in next(line for line in text.splitlines() if line.startswith("big"))
    assert row(text, "big")[-1] == "?"
    assert "[1] message larger than max (50000771 vs. 4194304)" in text


def test_figures_taken_in_company_are_marked() -> None:
    scenario = Scenario("calls", lambda system, seconds: Sample(0))
    usage = {"replica": Usage(1.0, 0, 1), OTHERS: Usage(1.0, 0, 0)}
    record = Record(MACHINE, ["calls"], [Outcome("meshserve", "calls", Sample(500.0), usage=usage)])
    assert row(tables(record, [scenario], ["meshserve"], None), "calls")[2] == "500~"


def test_record_survives_its_file(tmp_path: Path) -> None:
    outcome = Outcome("meshserve", "calls", Sample(1.0, 2.0, 3.0, 4, "note"), usage={"replica": Usage(1.0, 2, 3)})
    record = Record(MACHINE, ["calls"], [outcome, Outcome("ray-fast", "calls", error="no")])
    record.save(tmp_path / "record.json")
    assert load(tmp_path / "record.json") == record


def test_what_others_disturb_is_measured_again_and_the_calmest_counts() -> None:
    found = [(Sample(value), usage_with(others)) for value, others in ((1.0, 0.5), (2.0, 0.2), (3.0, 0.3), (4.0, 0.0))]
    remaining = iter(found)
    assert measure_quietly(lambda: next(remaining), tries=3) == found[1]


def test_what_nobody_disturbs_is_measured_once() -> None:
    found = (Sample(1.0), usage_with(0.01))
    remaining = iter([found])
    assert measure_quietly(lambda: next(remaining), tries=3) == found
