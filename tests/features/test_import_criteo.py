"""The importer of the Criteo attribution data set, on files written here in its published format."""

from __future__ import annotations

import gzip
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import duckdb
import pandas as pd
import pytest

from features.errors import ConfigError, WorkdirBusy
from features.importers import folder
from features.importers.criteo import ORIGIN, import_criteo
from features.reader import open_logs

COLUMNS = [
    *("timestamp", "uid", "campaign", "conversion", "conversion_timestamp", "conversion_id", "attribution"),
    *("click", "click_pos", "click_nb", "cost", "cpo", "time_since_last_click"),
    *(f"cat{i}" for i in range(1, 10)),
]
DAY = 86_400


def row(timestamp: int, uid: int, campaign: int, *, click: int = 0, conversion: tuple[int, int] | None = None) -> str:
    """A line of the file; conversion: (timestamp, id)."""
    converted, (at, name) = int(conversion is not None), conversion or (-1, -1)
    cells = [timestamp, uid, campaign, converted, at, name, converted, click, -1, -1, "1e-05", "0.3906152", -1]
    return "\t".join(map(str, [*cells, *range(5_824_233, 5_824_242)]))


ROWS = [
    row(0, 7, 22_589_171),
    row(60, 7, 884_761, click=1, conversion=(3_600, 11)),
    row(60, 8, 884_761, click=1, conversion=(90_000, 11)),  # the same conversion_id, of another user
    row(60, 7, 884_761),  # the same user, campaign and second
    row(120, 7, 22_589_171, click=1, conversion=(3_600, 11)),  # the same conversion
    row(DAY + 5, 9, 22_589_171, click=1, conversion=(3 * DAY, 12)),  # after the last impression
    row(2 * DAY, 8, 22_589_171),
]


def write(path: Path, rows: list[str] = ROWS, header: list[str] = COLUMNS) -> Path:
    text = "".join(line + "\n" for line in ["\t".join(header), *rows]).encode()
    path.write_bytes(gzip.compress(text, mtime=0) if path.suffix == ".gz" else text)
    return path


def at(seconds: int) -> datetime:
    return ORIGIN.replace(tzinfo=None) + timedelta(seconds=seconds)


def read(logs: Path, table: str) -> pd.DataFrame:
    return duckdb.sql(f"FROM read_parquet('{logs}/{table}/**/*.parquet', hive_partitioning = false)").df()


def whole(folder: Path) -> dict[str, bytes]:
    """Every file under a folder, by name."""
    return {str(f.relative_to(folder)): f.read_bytes() for f in sorted(folder.rglob("*")) if f.is_file()}


@pytest.mark.parametrize("name", ["criteo_attribution_dataset.tsv.gz", "pcb_dataset_final.tsv"])
def test_impressions_are_touchpoints_and_conversions_uploads(name: str, tmp_path: Path) -> None:
    summary = import_criteo(write(tmp_path / name), tmp_path / "logs")
    logs = open_logs(tmp_path / "logs")
    assert datetime(2016, 1, 1, tzinfo=UTC) == ORIGIN
    assert logs.rows == {"touchpoints": 6, "uploads": 2}
    assert (logs.responses, logs.has_items, logs.has_users, logs.has_randomised) == ((), False, False, False)
    assert (logs.earliest_ts, logs.latest_ts) == (at(0), at(2 * DAY))
    touches = read(tmp_path / "logs", "touchpoints")
    assert touches[["user_id", "item_id", "ts"]].to_numpy().tolist() == [
        [7, 22_589_171, at(0)],
        [7, 884_761, at(60)],
        [7, 22_589_171, at(120)],
        [8, 884_761, at(60)],
        [9, 22_589_171, at(DAY + 5)],
        [8, 22_589_171, at(2 * DAY)],
    ]
    assert (touches["author_id"] == touches["item_id"]).all()
    assert (touches["cluster_id"] == touches["item_id"]).all()
    uploads = read(tmp_path / "logs", "uploads").to_numpy().tolist()
    assert uploads == [[7, (7 << 32) + 11, at(3_600)], [8, (8 << 32) + 11, at(90_000)]]
    assert summary.read == {name: 7}
    assert summary.written == logs.rows
    assert summary.remarks == {
        "impressions of a user, campaign and second that has one, counted once": 1,
        "conversions after the last touchpoint, left out": 1,
    }


def test_days_are_partitions_in_the_order_of_their_key(tmp_path: Path) -> None:
    import_criteo(write(tmp_path / "c.tsv"), tmp_path / "logs")
    files = sorted((tmp_path / "logs" / "touchpoints").glob("*/*"))
    assert [str(f.relative_to(tmp_path / "logs" / "touchpoints")) for f in files] == [
        f"dt=2016-01-0{day}/part-0.parquet" for day in (1, 2, 3)
    ]
    first = pd.read_parquet(files[0], partitioning=None)
    pd.testing.assert_frame_equal(first, first.sort_values(["user_id", "ts", "item_id"], ignore_index=True))


def test_clicks_as_touchpoints_end_with_the_last_click(tmp_path: Path) -> None:
    summary = import_criteo(write(tmp_path / "c.tsv"), tmp_path / "logs", touches="clicks")
    assert open_logs(tmp_path / "logs").rows == {"touchpoints": 4, "uploads": 1}
    assert read(tmp_path / "logs", "touchpoints")["ts"].max() == at(DAY + 5)
    assert summary.remarks["impressions without a click, left out"] == 3
    assert summary.remarks["conversions after the last touchpoint, left out"] == 2
    with pytest.raises(ConfigError, match="views"):
        import_criteo(tmp_path / "c.tsv", tmp_path / "logs", touches="views")


def test_a_conversion_whose_rows_disagree_is_at_the_earliest(tmp_path: Path) -> None:
    rows = [
        row(0, 1, 5, click=1, conversion=(500, 3)),
        row(9, 1, 5, click=1, conversion=(400, 3)),
        row(9_999, 1, 5),
    ]
    summary = import_criteo(write(tmp_path / "c.tsv", rows), tmp_path / "logs")
    assert read(tmp_path / "logs", "uploads")["ts"].tolist() == [at(400)]
    assert summary.remarks == {"conversions whose rows disagree on the time, the earliest kept": 1}


def test_columns_are_found_by_name_and_empty_lines_mean_nothing(tmp_path: Path) -> None:
    plain = import_criteo(write(tmp_path / "c.tsv"), tmp_path / "logs")
    turned = ["\t".join(reversed(line.split("\t"))) for line in ROWS]
    (tmp_path / "other").mkdir()
    write(tmp_path / "other" / "c.tsv", [turned[0], "", *turned[1:]], COLUMNS[::-1])
    assert import_criteo(tmp_path / "other", tmp_path / "again") == plain
    for table in ("touchpoints", "uploads"):
        assert whole(tmp_path / "again" / table) == whole(tmp_path / "logs" / table)


def cell(line: int, column: str, value: str) -> Callable[[list[str]], list[str]]:
    """The rows with another value in a line (from 1, as editors count; the header is line 1)."""

    def change(rows: list[str]) -> list[str]:
        cells = rows[line - 2].split("\t")
        cells[COLUMNS.index(column)] = value
        return [*rows[: line - 2], "\t".join(cells), *rows[line - 1 :]]

    return change


@pytest.mark.parametrize("end", [".tsv", ".tsv.gz"])
@pytest.mark.parametrize(
    ("change", "named"),
    [
        (cell(4, "timestamp", "-5"), "line 4, column 'timestamp': '-5' is not a number of seconds"),
        (cell(4, "timestamp", "1451606400"), "line 4, column 'timestamp': '1451606400'"),
        (cell(4, "uid", "1.5"), "line 4, column 'uid': '1.5' is not an integer id"),
        (cell(8, "uid", ""), "line 8, column 'uid': ''"),
        (cell(2, "campaign", "3000000000"), "line 2, column 'campaign': '3000000000'"),
        (cell(3, "click", "2"), "line 3, column 'click': '2' is not 0 or 1"),
        (cell(3, "click", "true"), "line 3, column 'click': 'true' is not 0 or 1"),
        (cell(3, "conversion_timestamp", "never"), "line 3, column 'conversion_timestamp': 'never'"),
        (cell(3, "conversion_timestamp", "59"), "line 3, column 'conversion_timestamp': '59' is not at or after"),
        (cell(3, "conversion_id", "-1"), "line 3, column 'conversion_id': '-1' is not an id where conversion is 1"),
        (cell(3, "conversion", "0"), "line 3, column 'conversion_timestamp': '3600'"),
        (lambda rows: [*rows[:2], "", "", *cell(4, "uid", "x")(rows)[2:]], "line 6, column 'uid': 'x'"),
        (lambda rows: [*rows[:2], "1\t2\t3", *rows[2:]], "line 4: 3 cells instead of 22"),
        (lambda rows: [*rows[:2], rows[2] + "\t9", *rows[3:]], "line 4: 23 cells instead of 22"),
        (lambda rows: rows[:0], "holds no rows"),
        (lambda rows: rows[:1], "holds no conversion up to the last touchpoint"),
    ],
)
def test_a_wrong_file_is_refused_by_line_column_and_value(
    change: Callable[[list[str]], list[str]], named: str, end: str, tmp_path: Path
) -> None:
    path = write(tmp_path / f"c{end}", change(ROWS))
    with pytest.raises(ConfigError) as refused:
        import_criteo(path, tmp_path / "logs")
    assert f"{path}: {named}" in str(refused.value)
    assert sorted(p.name for p in tmp_path.iterdir()) == [path.name]


def test_a_wrong_header_is_refused(tmp_path: Path) -> None:
    header = ["user_id" if name == "uid" else name for name in COLUMNS]
    with pytest.raises(ConfigError, match=r"c\.tsv: no column uid in line 1; it has timestamp, user_id, campaign"):
        import_criteo(write(tmp_path / "c.tsv", header=header), tmp_path / "logs")
    (tmp_path / "c.tsv").write_text("")
    with pytest.raises(ConfigError, match=r"c\.tsv: Empty CSV file"):
        import_criteo(tmp_path / "c.tsv", tmp_path / "logs")
    with pytest.raises(ConfigError, match=r"absent\.tsv: .*No such file"):
        import_criteo(tmp_path / "absent.tsv", tmp_path / "logs")
    (tmp_path / "c.tsv").write_bytes(b"PAR1\xff\xfe\x00")
    with pytest.raises(ConfigError, match=r"c\.tsv: .*utf-8"):
        import_criteo(tmp_path / "c.tsv", tmp_path / "logs")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ConfigError, match=r"needs one file \*\.tsv or \*\.tsv\.gz, has none"):
        import_criteo(tmp_path / "empty", tmp_path / "logs")


@pytest.mark.parametrize("lost", [1, 9, 2_000])
def test_a_truncated_gz_is_refused(lost: int, tmp_path: Path) -> None:
    rows = [row(i, i % 997, i * 7_919 % 1_009, click=1, conversion=(i + 1, i)) for i in range(5_000)]
    path = write(tmp_path / "c.tsv.gz", rows)
    path.write_bytes(path.read_bytes()[:-lost])
    with pytest.raises(ConfigError, match=r"c\.tsv\.gz: .*ended before.*fetch it again"):
        import_criteo(path, tmp_path / "logs")
    assert not (tmp_path / "logs").exists()


def test_a_damaged_gz_is_refused_even_where_it_can_be_parsed(tmp_path: Path) -> None:
    path = write(tmp_path / "c.tsv.gz")
    stored = gzip.compress(gzip.decompress(path.read_bytes()), compresslevel=0)
    assert stored.count(b"\t884761\t") == 3
    path.write_bytes(stored.replace(b"\t884761\t", b"\t884762\t", 1))
    with pytest.raises(ConfigError, match=r"c\.tsv\.gz: CRC check failed.*fetch it again"):
        import_criteo(path, tmp_path / "logs")
    assert not (tmp_path / "logs").exists()


def test_an_import_replaces_its_own_folder_only(tmp_path: Path) -> None:
    logs, path = tmp_path / "logs", write(tmp_path / "c.tsv")
    first = import_criteo(path, logs)
    before = {f: f.stat().st_mtime_ns for f in logs.rglob("*")}
    assert import_criteo(path, logs) == first
    assert {f: f.stat().st_mtime_ns for f in logs.rglob("*")} == before  # from the same file it is there already
    write(path, ROWS[1:])
    assert import_criteo(path, logs).written["touchpoints"] == 5
    assert sorted(p.name for p in tmp_path.iterdir()) == ["c.tsv", "logs"]
    (logs / "import.json").unlink()
    with pytest.raises(ConfigError, match=r"holds files but no import\.json"):
        import_criteo(path, logs)
    with pytest.raises(ConfigError, match=r"c\.tsv: is a file"):
        import_criteo(path, path)


def test_a_refused_file_leaves_the_import_that_is_there(tmp_path: Path) -> None:
    logs, path = tmp_path / "logs", write(tmp_path / "c.tsv")
    import_criteo(path, logs)
    before = whole(logs)
    write(path, cell(5, "uid", "x")(ROWS))
    with pytest.raises(ConfigError):
        import_criteo(path, logs)
    assert whole(logs) == before


def test_two_imports_into_one_folder_are_one_too_many(tmp_path: Path) -> None:
    path = write(tmp_path / "c.tsv")

    def meanwhile(_: folder.Workspace) -> folder.Summary:
        with pytest.raises(WorkdirBusy, match="another import"):
            import_criteo(path, tmp_path / "logs")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        folder.build(tmp_path / "logs", {}, meanwhile)
    assert import_criteo(path, tmp_path / "logs").written["touchpoints"] == 6


KILLED = """
import os, signal, sys
from pathlib import Path
from features.importers import steps
from features.importers.criteo import import_criteo

calls, write_parquet = [], steps.write_parquet

def dying(connection, query, path, parameters=None):
    calls.append(path)
    if len(calls) > int(sys.argv[3]):
        path.write_bytes(b"PAR1 half of a file")
        (path.parent / "tmp_more").write_bytes(b"and another")
        os.kill(os.getpid(), signal.SIGKILL)
    write_parquet(connection, query, path, parameters)

steps.write_parquet = dying
import_criteo(Path(sys.argv[1]), Path(sys.argv[2]))
"""


@pytest.mark.parametrize("written", [0, 2, 3])
def test_a_killed_import_goes_on_and_ends_alike(written: int, tmp_path: Path) -> None:
    path = write(tmp_path / "c.tsv.gz")
    import_criteo(path, tmp_path / "whole")
    command = [sys.executable, "-c", KILLED, str(path), str(tmp_path / "logs"), str(written)]
    killed = subprocess.run(command, capture_output=True, check=False)
    assert killed.returncode == -signal.SIGKILL, killed.stderr.decode()
    assert not (tmp_path / "logs").exists()
    kept = {f.stat().st_ino for f in (tmp_path / ".logs.import" / "tables").rglob("part-0.parquet")}
    assert len(kept) == written
    import_criteo(path, tmp_path / "logs")
    assert whole(tmp_path / "logs") == whole(tmp_path / "whole")
    assert kept <= {f.stat().st_ino for f in (tmp_path / "logs").rglob("*")}
    assert not (tmp_path / ".logs.import").exists()


def test_another_import_does_not_go_on_where_a_killed_one_was(tmp_path: Path) -> None:
    path = write(tmp_path / "c.tsv.gz")
    command = [sys.executable, "-c", KILLED, str(path), str(tmp_path / "logs"), "2"]
    assert subprocess.run(command, capture_output=True, check=False).returncode == -signal.SIGKILL
    write(path, ROWS[1:])
    import_criteo(path, tmp_path / "logs")
    import_criteo(path, tmp_path / "whole")
    assert whole(tmp_path / "logs") == whole(tmp_path / "whole")


PEAK = """
import resource, sys
from pathlib import Path
from features.importers.criteo import import_criteo

import_criteo(Path(sys.argv[1]), Path(sys.argv[2]), memory_limit="100MB")
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024)
"""


def test_memory_does_not_grow_with_the_file(tmp_path: Path) -> None:
    """Twenty times the rows, 90 MB of text, in 100 MB of DuckDB's memory."""
    peak_mb = []
    for rows in (50_000, 1_000_000):
        path = tmp_path / f"{rows}.tsv"
        constant = ", ".join(f"{i} AS {name}" for i, name in enumerate(COLUMNS[8:]))
        duckdb.execute(
            f"COPY (SELECT i % 2000000 AS timestamp, hash(i) % 1000000 AS uid, i % 600 AS campaign, "
            f"(i % 50 = 0)::INT AS conversion, if(i % 50 = 0, i % 2000000 + 60, -1) AS conversion_timestamp, "
            f"if(i % 50 = 0, i, -1) AS conversion_id, 0 AS attribution, 1 AS click, {constant} "
            f"FROM range({rows}) AS t(i)) TO '{path}' (HEADER, DELIMITER '\t')"
        )
        command = [sys.executable, "-c", PEAK, str(path), str(tmp_path / f"logs-{rows}")]
        ended = subprocess.run(command, capture_output=True, text=True, check=True, env=os.environ)
        peak_mb.append(int(ended.stdout))
    assert peak_mb[1] < peak_mb[0] + 80
