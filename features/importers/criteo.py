"""The Criteo attribution data set (https://ailab.criteo.com/criteo-attribution-modeling-bidding-dataset/).

Diemert, Meynet, Galland & Lefortier (2017), "Attribution Modeling Increases Efficiency of Bidding in Display
Advertising", AdKDD. One tab-separated file of 30 days, a row an impression, with these columns:

    timestamp uid campaign conversion conversion_timestamp conversion_id attribution click click_pos click_nb cost cpo
    time_since_last_click cat1 ... cat9

| contract | from the file |
|---|---|
| touchpoint | an impression: showing the banner is what an advertiser can do, a click is what the user then did |
| item_id, author_id, cluster_id | campaign, the only thing that is known of a banner |
| upload | a conversion: (uid, conversion_id), for one conversion_id may name conversions of two users |
| upload_id | uid · 2³² + conversion_id |
| ts | ORIGIN + the seconds of timestamp and conversion_timestamp; the true dates are not published |

Impressions of one user, campaign and second are one touchpoint. Conversions after the last touchpoint are left out:
from there on nobody's exposures are known, and a log ends where its exposures end.

There are no responses. A click is none of the contract's, and it may not stand for one: in this file conversions are
recorded behind clicks only, so a mediator learned from clicks would be the rule of recording. For the same reason a
conversion that no click precedes was never recorded, and impressions include such users with label 0; `touches =
'clicks'` makes a clicked impression the touchpoint, whose conversions are all there, at the price of a treatment
that users chose. cat1 ... cat9 are contexts of undisclosed meaning that vary within a campaign; attribution, click_pos,
click_nb and time_since_last_click are Criteo's own account of the outcome, cost and cpo are transformed: left out.
"""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import duckdb

from features.duck import MEMORY_LIMIT, fetch_one, session
from features.errors import ConfigError
from features.importers.folder import PART, Summary, Workspace, build, identity_of
from features.importers.published import Rule, TextFile, checked_view, flag, integer, open_text
from features.importers.refusal import reading
from features.importers.steps import rows_written, stage, staged, write_days, write_once

VERSION = 1
ORIGIN = datetime(2016, 1, 1, tzinfo=UTC)
"""What second 0 of the file is taken to be; the file does not say, and only differences mean anything."""
LONGEST_S = 366 * 86_400
TOUCHES = ("impressions", "clicks")
FORMAT = "the tab-separated file of the Criteo attribution data set"

_SECONDS = "a number of seconds since the first impression"
_CONVERTED = "conversion = '1'"
RULES = (
    integer("timestamp", high=LONGEST_S, wanted=_SECONDS),
    integer("uid", high=2**31 - 1),
    integer("campaign", high=2**31 - 1),
    flag("conversion"),
    flag("click"),
    integer("conversion_timestamp", low=-1, high=2 * LONGEST_S, wanted=f"{_SECONDS}, or -1"),
    integer("conversion_id", low=-1, high=2**32 - 1, wanted="an integer id, or -1"),
    Rule(
        column="conversion_timestamp",
        holds=f"CASE WHEN {_CONVERTED} THEN TRY_CAST(conversion_timestamp AS BIGINT) >= TRY_CAST(timestamp AS BIGINT) "
        "ELSE conversion_timestamp = '-1' END",
        wanted="at or after the impression where conversion is 1, and -1 where it is 0",
    ),
    Rule(
        column="conversion_id",
        holds=f"(conversion_id <> '-1') = ({_CONVERTED})",
        wanted="an id where conversion is 1, and -1 where it is 0",
    ),
)

_STAGED = f"""
SELECT *, CAST(ts AS DATE) AS dt FROM (
    SELECT CAST(uid AS BIGINT) AS user_id, CAST(campaign AS INTEGER) AS campaign, click = '1' AS clicked,
           make_timestamp({{origin}} + 1000000 * CAST(timestamp AS BIGINT)) AS ts,
           CASE WHEN {_CONVERTED} THEN CAST(conversion_id AS BIGINT) END AS conversion_id,
           CASE WHEN {_CONVERTED} THEN make_timestamp({{origin}} + 1000000 * CAST(conversion_timestamp AS BIGINT)) END
               AS conversion_ts
    FROM impressions)
"""

_TOUCHPOINTS = """
SELECT DISTINCT user_id, CAST(campaign AS BIGINT) AS item_id, CAST(campaign AS BIGINT) AS author_id,
       campaign AS cluster_id, ts
FROM day WHERE {kept} ORDER BY user_id, ts, item_id
"""

_CONVERSIONS = """
SELECT user_id, user_id * 4294967296 + conversion_id AS upload_id, min(conversion_ts) AS ts,
       min(conversion_ts) <> max(conversion_ts) AS is_contradictory
FROM staged WHERE conversion_id IS NOT NULL GROUP BY user_id, conversion_id
"""


def import_criteo(
    source: Path, out: Path, *, touches: str = "impressions", memory_limit: str = MEMORY_LIMIT
) -> Summary:
    """Turn the published file `source` (or the only one in that folder), gzip or plain, into the contract's tables.

    touches: what a touchpoint is, an impression or a clicked one. memory_limit: DuckDB's.
    Raises ConfigError naming file, line, column and value of what is not in the format.
    """
    if touches not in TOUCHES:
        raise ConfigError(f"touches is '{touches}'; there are {', '.join(TOUCHES)}")
    path = _the_file(Path(source))
    file = open_text(path, delimiter="\t", needed=list(dict.fromkeys(r.column for r in RULES)), format_name=FORMAT)
    identity = identity_of("criteo", VERSION, [path], {"touches": touches})

    def fill(workspace: Workspace) -> Summary:
        with session(memory_limit=memory_limit, scratch=workspace.scratch) as connection:
            return _fill(connection, workspace, file, touches)

    return build(Path(out), identity, fill)


def _the_file(source: Path) -> Path:
    if not source.is_dir():
        return source
    found = sorted(file for pattern in ("*.tsv", "*.tsv.gz") for file in source.glob(pattern))
    if len(found) != 1:
        named = ", ".join(file.name for file in found) or "none"
        raise ConfigError(f"{source}: needs one file *.tsv or *.tsv.gz, has {named}; name the file itself")
    return found[0]


def _fill(connection: duckdb.DuckDBPyConnection, workspace: Workspace, file: TextFile, touches: str) -> Summary:
    with reading(connection, file, RULES):
        checked_view(connection, "impressions", file, RULES)
        origin = int(ORIGIN.timestamp()) * 1_000_000
        stage(connection, workspace, file.path.name, _STAGED.format(origin=origin))
    if not workspace.days():
        raise ConfigError(f"{file.path}: holds no rows; expected {FORMAT}")
    kept = "clicked" if touches == "clicks" else "true"
    write_days(connection, workspace, _TOUCHPOINTS.format(kept=kept))
    staged(connection, workspace, "staged", "*/dt=*")
    rows, clicked = fetch_one(connection, "SELECT count(*), count(*) FILTER (WHERE clicked) FROM staged")
    last = fetch_one(connection, f"SELECT max(ts) FROM staged WHERE {kept}")[0]
    connection.execute(f"CREATE TEMP TABLE conversions AS {_CONVERSIONS}")
    query = "SELECT user_id, upload_id, ts FROM conversions WHERE ts <= $last ORDER BY upload_id"
    write_once(connection, query, workspace.tables / "uploads" / PART, {"last": last})
    written = rows_written(connection, workspace)
    _refuse_empty(file, written)
    seen, contradictory = fetch_one(connection, "SELECT count(*), count_if(is_contradictory) FROM conversions")
    touched = clicked if touches == "clicks" else rows
    remarks = {
        "impressions without a click, left out": rows - touched,
        "impressions of a user, campaign and second that has one, counted once": touched - written["touchpoints"],
        "conversions after the last touchpoint, left out": seen - written["uploads"],
        "conversions whose rows disagree on the time, the earliest kept": contradictory,
    }
    return Summary(read={file.path.name: rows}, written=written, remarks={k: n for k, n in remarks.items() if n})


def _refuse_empty(file: TextFile, written: dict[str, int]) -> None:
    for table, what in (("touchpoints", "touchpoint"), ("uploads", "conversion up to the last touchpoint")):
        if not written[table]:
            raise ConfigError(f"{file.path}: holds no {what}, so there is nothing to attribute")
