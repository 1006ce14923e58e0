from __future__ import annotations

import io
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from rich.console import Console

from features.errors import WorkdirBusy
from pipelines.local import run_local
from pipelines.workdir import identity_of, only_run_in, open_run
from tests.pipelines.tiny import tiny


def _console() -> tuple[Console, io.StringIO]:
    screen = io.StringIO()
    return Console(file=screen, width=120, color_system=None), screen


def test_failed_run_is_resumed_at_the_failed_step(tmp_path: Path) -> None:
    ledger, broken = tmp_path / "ledger.txt", tmp_path / "broken"
    broken.touch()
    arguments = {"ledger": str(ledger), "fail_while": str(broken)}

    console, screen = _console()
    failed = open_run(tmp_path, "same")
    outcome = run_local(tiny, arguments, failed, console)
    assert outcome.failure is not None
    assert (outcome.failure.step, outcome.failure.error) == ("second-step", "BadLogsError")
    assert outcome.failure.text == "table 'touchpoints': is broken in 3 rows"
    assert "reading [what] came before" in screen.getvalue()
    assert "KFP Executor" not in screen.getvalue()
    assert "Traceback" not in screen.getvalue()
    assert "Traceback" in failed.log.read_text()

    broken.unlink()
    console, screen = _console()
    resumed = open_run(tmp_path, "same")
    outcome = run_local(tiny, arguments, resumed, console)
    assert resumed.run_id == failed.run_id
    assert resumed.resumed
    assert outcome.failure is None
    assert outcome.narration.cached == ["first-step"]
    assert outcome.outputs == {"Output": "approved"}
    assert ledger.read_text().split() == ["first", "second", "second"]


def test_another_identity_or_a_finished_run_starts_afresh(tmp_path: Path) -> None:
    run = open_run(tmp_path, "one")
    assert not open_run(tmp_path, "two").resumed
    again = open_run(tmp_path, "two")
    assert again.resumed
    again.finish()
    assert not open_run(tmp_path, "two").resumed
    assert run.path.exists()


def test_identity_changes_with_config_and_logs() -> None:
    assert identity_of("a: 1", "logs") == identity_of("a: 1", "logs")
    assert len({identity_of("a: 1", "logs"), identity_of("a: 2", "logs"), identity_of("a: 1", "other")}) == 3


def test_second_run_in_a_workdir_is_refused_while_one_is_alive(tmp_path: Path) -> None:
    holder = (
        "import sys, time; from pathlib import Path; from pipelines.workdir import only_run_in\n"
        "with only_run_in(Path(sys.argv[1])): print('held', flush=True); time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", holder, str(tmp_path)], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        with pytest.raises(WorkdirBusy, match=rf"process {process.pid}"), only_run_in(tmp_path):
            pass
        process.kill()
    with only_run_in(tmp_path):
        pass


RUN_SLOW = """
import sys
from pathlib import Path
from rich.console import Console
from pipelines.local import run_local
from pipelines.workdir import open_run
from tests.pipelines.tiny import slow
try:
    arguments = {"ledger": sys.argv[2], "module": "tests.pipelines.sleeper"}
    run_local(slow, arguments, open_run(Path(sys.argv[1]), "x"), Console())
except KeyboardInterrupt:
    print("interrupted", flush=True)
"""


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_steps_end_with_their_runner(tmp_path: Path, number: signal.Signals) -> None:
    ledger = tmp_path / "pid"
    with subprocess.Popen(
        [sys.executable, "-c", RUN_SLOW, str(tmp_path), str(ledger)], stdout=subprocess.PIPE, text=True
    ) as process:
        _wait_until(lambda: ledger.exists() and ledger.read_text().endswith("\n"))
        process.send_signal(number)
        output, _ = process.communicate(timeout=20)
    sleeper = int(ledger.read_text())
    _wait_until(lambda: not _alive(sleeper))
    assert ("interrupted" in output) == (number == signal.SIGTERM)


def _alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().split(")")[-1].split()[0] != "Z"
    except FileNotFoundError:
        return False


def _wait_until(condition, seconds: float = 20.0) -> None:  # type: ignore[no-untyped-def]
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.05)
