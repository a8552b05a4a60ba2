"""Logs of many processes read as one."""

import pickle
from pathlib import Path

from meshserve.cli.log_files import Entry, LogFile, entries
from meshserve.cli.log_machine import HERE, LogMachine, machines, paths_of
from meshserve.model.overview import LogPlace


def line(second: int, text: str) -> str:
    return f"INFO 2026-05-01 12:00:{second:02d},000 shop_Model r1 -- {text}"


def texts(found: list[Entry]) -> list[str]:
    return [entry.text.partition("-- ")[2] for entry in found]


def test_a_traceback_stays_with_its_message():
    found = list(entries(["half a line", line(1, "it failed"), "Traceback", "KeyError", line(2, "next")]))
    assert texts(found) == ["it failed\nTraceback\nKeyError", "next"]
    assert found[0].at == "2026-05-01 12:00:01,000"


def test_json_lines_have_their_time_too():
    (found,) = entries(['{"asctime": "2026-05-01 12:00:01,000", "message": "hello"}'])
    assert found.at == "2026-05-01 12:00:01,000"


def test_the_last_entries_are_read_from_the_end_however_long_the_file_is(tmp_path: Path):
    path = tmp_path / "log"
    path.write_text("\n".join(line(number % 60, f"{number} {'x' * 100}") for number in range(3000)) + "\n")
    found = texts(LogFile(path).last(3))
    assert [one.partition(" ")[0] for one in found] == ["2997", "2998", "2999"]
    assert LogFile(path).last(0) == [] and len(LogFile(path).last(5000)) == 3000


def test_what_comes_is_read_once_its_line_is_complete(tmp_path: Path):
    path = tmp_path / "log"
    path.write_text(line(1, "before") + "\n")
    log = LogFile(path)
    log.last(0)
    with path.open("a") as file:
        file.write(line(2, "one") + "\n" + line(3, "tw"))
        file.flush()
        assert texts(log.more()) == ["one"]
        file.write("o\n")
        file.flush()
        assert texts(log.more()) == ["two"] and log.more() == []


def test_a_file_that_was_put_aside_goes_on_in_the_new_one(tmp_path: Path):
    path = tmp_path / "log"
    path.write_text(line(1, "old") + "\n")
    log = LogFile(path)
    assert texts(log.last(9)) == ["old"]
    path.rename(tmp_path / "log.1")
    assert log.more() == []
    path.write_text(line(2, "new") + "\n")
    assert texts(log.more()) == ["new"]


def test_replicas_that_are_gone_are_read_with_their_successors_and_other_deployments_are_not(tmp_path: Path):
    names = ("replica_shop_Model_dead1", "replica_shop_Model_live1", "replica_shop_Model_2_other", "proxy_10.0.0.1")
    for name in names:
        (tmp_path / f"{name}.log").touch()
    place = LogPlace(str(tmp_path / "replica_shop_Model_live1.log"), "10.0.0.1", "shop", "Model", "live1")
    assert {path.stem for path in paths_of([place])} == {"replica_shop_Model_dead1", "replica_shop_Model_live1"}
    elsewhere = LogPlace("/no/such/folder/x.log", "10.0.0.2")
    assert paths_of([elsewhere]) == []


def test_the_logs_of_another_machine_are_read_there(tmp_path: Path):
    path = tmp_path / "replica_shop_Model_r1.log"
    path.write_text(line(1, "one") + "\n" + line(2, "two") + "\n")

    def there(function, *args):
        return pickle.loads(pickle.dumps(function(*pickle.loads(pickle.dumps(args)))))

    log = LogMachine(there)
    assert log.is_empty
    log.look([LogPlace(str(path), "10.0.0.2", "shop", "Model", "r1")])
    assert not log.is_empty and texts(log.last(1)) == ["two"]
    with path.open("a") as file:
        file.write(line(3, "three") + "\n" + line(4, "fo"))
    assert texts(log.more()) == ["three"]
    with path.open("a") as file:
        file.write("ur\n")
    assert texts(log.more()) == ["four"] and log.more() == []


def test_what_is_on_which_machine(tmp_path: Path):
    here, there = LogPlace(str(tmp_path / "a.log"), "10.0.0.1"), LogPlace("/nowhere/b.log", "10.0.0.2")
    assert machines([here, there]) == {HERE: [here], "10.0.0.2": [there]}
