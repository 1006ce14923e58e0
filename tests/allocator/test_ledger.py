from __future__ import annotations

import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from spender import spend

from allocator import database as database_module
from allocator.database import Database, append_audit, verify_audit
from allocator.errors import Conflict, NotFound
from allocator.history import History, PushedModel
from allocator.ledger import Ledger, Receipt
from features.errors import AllocatorError, BudgetExceeded

SPENDER = Path(__file__).with_name("spender.py")


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    opened = Database(tmp_path / "ledger.sqlite")
    yield opened
    opened.close()


@pytest.fixture
def ledger(database: Database) -> Ledger:
    return Ledger(database)


def spender(path: Path, prefix: str, count: int, units: int) -> subprocess.Popen[str]:
    command = [sys.executable, str(SPENDER), str(path), "b", prefix, str(count), str(units)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def assert_consistent(database: Database) -> None:
    """The budget holds exactly what the spends and their lines add up to, and the audit trail is whole."""
    spent = Ledger(database).budget("b").spent
    assert spent == database.rows("SELECT coalesce(sum(units), 0) AS units FROM spend")[0]["units"]
    assert spent == database.rows("SELECT coalesce(sum(cost), 0) AS cost FROM spend_line")[0]["cost"]
    count = database.rows("SELECT count(*) AS n FROM spend")[0]["n"]
    assert verify_audit(database) == count + 1  # the budget itself


def test_every_commit_is_written_through(database: Database) -> None:
    assert database.rows("PRAGMA journal_mode")[0][0] == "wal"
    assert database.rows("PRAGMA synchronous")[0][0] == 2  # FULL


def test_a_spend_takes_from_the_budget_and_stops_at_its_total(ledger: Ledger) -> None:
    ledger.set_budget("b", 10, actor="admin")
    assert ledger.spend(spend("r1", "b", 7), actor="allocate").answer == {"spent": 7, "remaining": 3}
    with pytest.raises(BudgetExceeded, match="'b' has 3 units left, 4 were asked for"):
        ledger.spend(spend("r2", "b", 4), actor="allocate")
    assert ledger.spend(spend("r2", "b", 3), actor="allocate").answer["remaining"] == 0


def test_a_replay_gets_the_first_answer_and_spends_nothing(ledger: Ledger) -> None:
    ledger.set_budget("b", 10, actor="admin")
    first = ledger.spend(spend("r1", "b", 7), actor="allocate")
    again = ledger.spend(spend("r1", "b", 7), actor="allocate")
    assert again == Receipt(lines=first.lines, answer=first.answer, replayed=True)
    assert ledger.receipt("r1", "d-r1") == again
    assert ledger.budget("b").spent == 7


def test_a_request_id_means_one_request(ledger: Ledger) -> None:
    ledger.set_budget("b", 10, actor="admin")
    ledger.spend(spend("r1", "b", 1), actor="allocate")
    with pytest.raises(Conflict, match="'r1' was already used for another request"):
        ledger.receipt("r1", "another digest")


def test_a_total_may_grow_but_not_fall_below_what_is_spent(ledger: Ledger) -> None:
    ledger.set_budget("b", 10, actor="admin")
    ledger.spend(spend("r1", "b", 7), actor="allocate")
    assert ledger.set_budget("b", 7, actor="admin").remaining == 0
    with pytest.raises(Conflict, match="7 units are already spent"):
        ledger.set_budget("b", 6, actor="admin")
    with pytest.raises(NotFound, match="no budget 'other'"):
        ledger.budget("other")
    with pytest.raises(NotFound, match="no budget 'other'"):
        ledger.spend(spend("r2", "other", 1), actor="allocate")


def test_threads_stop_exactly_at_the_budget(database: Database, ledger: Ledger) -> None:
    """8 threads ask for 200 spends of 3 units from 301: exactly 100 are granted."""
    ledger.set_budget("b", 301, actor="admin")

    def attempt(number: int) -> bool:
        try:
            ledger.spend(spend(f"r{number}", "b", 3), actor="allocate")
        except BudgetExceeded:
            return False
        return True

    with ThreadPoolExecutor(8) as pool:
        granted = sum(pool.map(attempt, range(200)))
    assert (granted, ledger.budget("b").remaining) == (100, 1)
    assert_consistent(database)


def test_threads_with_one_request_id_spend_once(ledger: Ledger) -> None:
    ledger.set_budget("b", 100, actor="admin")
    with ThreadPoolExecutor(8) as pool:
        receipts = list(pool.map(lambda _: ledger.spend(spend("same", "b", 5), actor="allocate"), range(32)))
    assert sum(not receipt.replayed for receipt in receipts) == 1
    assert {receipt.answer["remaining"] for receipt in receipts} == {95}


def test_processes_stop_exactly_at_the_budget(database: Database, ledger: Ledger) -> None:
    """3 processes could each spend 100 x 2 units; together they get exactly 251 // 2."""
    ledger.set_budget("b", 251, actor="admin")
    processes = [spender(database.path, prefix, 100, 2) for prefix in ("p", "q", "r")]
    granted = [line for process in processes for line in process.communicate(timeout=60)[0].split()]
    assert [process.returncode for process in processes] == [0, 0, 0]
    assert (len(granted), ledger.budget("b").remaining) == (125, 1)
    assert_consistent(database)


def test_processes_may_all_be_the_first_to_open_the_file(tmp_path: Path) -> None:
    openers = [
        subprocess.Popen(
            [sys.executable, "-c", "import sys, pathlib; from allocator.database import Database as D; "
             "D(pathlib.Path(sys.argv[1])).close()", str(tmp_path / "fresh" / "ledger.sqlite")]
        )
        for _ in range(4)
    ]  # fmt: skip
    assert [opener.wait(60) for opener in openers] == [0, 0, 0, 0]


def test_a_killed_process_leaves_a_consistent_ledger(database: Database, ledger: Ledger) -> None:
    """SIGKILL in the middle of spending: what was reported as granted is on record, and a replay continues exactly."""
    ledger.set_budget("b", 10_000, actor="admin")
    process = spender(database.path, "k", 100_000, 1)
    assert process.stdout is not None
    reported = [process.stdout.readline().strip() for _ in range(20)]
    process.kill()
    reported += process.communicate()[0].splitlines()
    spent = ledger.budget("b").spent
    assert 20 <= spent < 10_000
    assert_consistent(database)
    whole = [line for line in reported if ledger.receipt(line, f"d-{line}") is not None]
    assert len(whole) >= 20
    assert ledger.spend(spend(whole[0], "b", 1), actor="allocate").replayed
    assert ledger.budget("b").spent == spent


def test_a_failing_transaction_leaves_nothing(database: Database, ledger: Ledger) -> None:
    ledger.set_budget("b", 10, actor="admin")
    broken = spend("r1", "b", 3)
    broken.answer["not json"] = object()
    with pytest.raises(TypeError):
        ledger.spend(broken, actor="allocate")
    assert ledger.budget("b").spent == 0
    assert_consistent(database)


def test_the_audit_trail_is_append_only_and_chained(database: Database, ledger: Ledger) -> None:
    ledger.set_budget("b", 10, actor="admin")
    ledger.spend(spend("r1", "b", 3), actor="allocate")
    rows = database.rows("SELECT actor, action FROM audit ORDER BY seq")
    assert [tuple(row) for row in rows] == [("admin", "budget.set"), ("allocate", "budget.spend")]
    for sql in ("UPDATE audit SET actor = 'nobody'", "DELETE FROM audit"):
        with pytest.raises(sqlite3.IntegrityError, match="append-only"), database.transaction() as connection:
            connection.execute(sql)
    with database.transaction() as connection:  # somebody with the file in their hands
        connection.execute("DROP TRIGGER audit_no_update")
        connection.execute("UPDATE audit SET detail = '{}' WHERE seq = 1")
    with pytest.raises(AllocatorError, match="audit row 1 does not follow"):
        verify_audit(database)


def test_a_missing_audit_row_is_noticed(database: Database) -> None:
    with database.transaction() as connection:
        for number in range(3):
            append_audit(connection, actor="test", action="n", detail={"number": number})
        connection.execute("DROP TRIGGER audit_no_delete")
        connection.execute("DELETE FROM audit WHERE seq = 2")
    with pytest.raises(AllocatorError, match="audit row 3"):
        verify_audit(database)


def fill_trail(database: Database, rows: int) -> None:
    with database.transaction() as connection:
        for number in range(rows):
            append_audit(connection, actor="test", action="n", detail={"number": number})


@pytest.mark.parametrize("kept", [0, 1, 2])
def test_a_trail_without_its_end_is_noticed(database: Database, kept: int) -> None:
    """What is left is a correct chain; only the head knows that there was more."""
    fill_trail(database, 3)
    with database.transaction() as connection:
        connection.execute("DROP TRIGGER audit_no_delete")
        connection.execute("DELETE FROM audit WHERE seq > ?", (kept,))
    with pytest.raises(AllocatorError, match=rf"the audit trail has {kept} rows, .* its head says 3 rows"):
        verify_audit(database)
    fill_trail(database, 1)
    with pytest.raises(AllocatorError, match="audit row 4 does not follow"):
        verify_audit(database)


def test_the_head_of_the_trail_cannot_be_lost(database: Database) -> None:
    fill_trail(database, 2)
    with pytest.raises(sqlite3.IntegrityError, match="append-only"), database.transaction() as connection:
        connection.execute("DELETE FROM audit_head")

    def fail_after_a_row() -> None:
        with database.transaction() as connection:
            append_audit(connection, actor="test", action="n", detail={})
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail_after_a_row()
    assert verify_audit(database) == 2, "row and head are of one transaction"
    with database.transaction() as connection:
        connection.execute("DROP TRIGGER audit_head_no_delete")
        connection.execute("DELETE FROM audit_head")
    with pytest.raises(AllocatorError, match="its head is missing"):
        verify_audit(database)


def test_readiness_writes_once_in_its_interval(tmp_path: Path) -> None:
    """While another connection holds the write lock, only a probe that writes notices."""
    path = tmp_path / "ledger.sqlite"
    rare, eager = (Database(path, busy_timeout_s=0, probe_interval_s=seconds) for seconds in (3600, 0))
    rare.check_usable()
    writer = Database(path)
    with writer.transaction():
        rare.check_usable()
        for _ in range(2):
            with pytest.raises(sqlite3.OperationalError, match="locked"):
                eager.check_usable()
    eager.check_usable()
    writer.close()
    rare.close()
    with pytest.raises(sqlite3.ProgrammingError, match="closed"):
        rare.check_usable()
    eager.close()


def test_a_database_of_another_release_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Database(tmp_path / "ledger.sqlite").close()
    monkeypatch.setattr(database_module, "SCHEMA_VERSION", 99)
    with pytest.raises(AllocatorError, match=r"schema version \d, this release reads version 99"):
        Database(tmp_path / "ledger.sqlite")


def pushed(version: str) -> PushedModel:
    return PushedModel(name="m", version=version, sha256=version * 64, feature_schema_hash="f" * 64, approval_id="a")


def test_history_survives_reopening_and_rolls_back(tmp_path: Path) -> None:
    """1, 2 pushed; back to 1; 3 pushed; back again goes to 1, because 2 was withdrawn."""
    first = Database(tmp_path / "ledger.sqlite")
    for version in ("1", "2"):
        History(first).activate(pushed(version), actor="push")
    assert History(first).roll_back(actor="admin").version == "1"
    first.close()
    second = Database(tmp_path / "ledger.sqlite")
    history = History(second)
    active = history.active()
    assert active is not None
    assert (active.version, active.sha256, active.approval_id) == ("1", "1" * 64, "a")
    assert history.activate(pushed("3"), actor="push").pushed_at > active.pushed_at
    with pytest.raises(Conflict, match="version '3' was already pushed"):
        history.activate(pushed("3"), actor="push")
    assert history.roll_back(actor="admin").version == "1"
    assert {version: found.state for version in "123" if (found := history.find("m", version))} == {
        "1": "active",
        "2": "withdrawn",
        "3": "withdrawn",
    }
    with pytest.raises(NotFound, match="no earlier model"):
        history.roll_back(actor="admin")
    assert verify_audit(second) == 5
    second.close()
