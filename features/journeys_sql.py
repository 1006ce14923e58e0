"""The journeys' SQL, step by step; `features/journeys.py` runs the steps and says what they mean.

Every query orders by key what it writes. Parameters: $inactivity, $lookback, $horizon, $control_start,
$control_end, $post (intervals), $max_touches, $log_start, $log_end, $fit_below, $selection_below.
"""

from __future__ import annotations

TOUCHES = "SELECT {columns} FROM touchpoints ORDER BY user_id, ts, item_id"
"""A shard's touches, sorted by key."""

POSITIONED = """
CREATE TEMP VIEW positioned AS
SELECT user_id, ts, cluster_id, file_row_number + {first_touch} AS position FROM touches
"""
"""Positions go on from the shards before; first_touch is their number of touches."""

UPLOAD_TIMES = """
CREATE TEMP TABLE upload_times AS
SELECT user_id, ts AS upload_ts, min(upload_id) AS upload_id FROM uploads GROUP BY user_id, ts
"""
"""Uploads at one moment of one user count as one label; the lowest id stands for them."""

OBSERVED = """
CREATE TEMP TABLE observed AS
WITH followed AS (
    SELECT *, lead(ts) OVER (PARTITION BY user_id ORDER BY position) AS next_ts FROM positioned
), ahead AS (
    SELECT f.*, u.upload_ts, u.upload_id
    FROM followed f ASOF LEFT JOIN upload_times u ON f.user_id = u.user_id AND f.ts < u.upload_ts
)
SELECT user_id, ts AS t_obs, position,
       upload_ts <= ts + $horizon AND coalesce(upload_ts <= next_ts, true) AS is_labelled,
       upload_ts, upload_id
FROM ahead
WHERE next_ts IS NULL OR next_ts - ts > $inactivity OR upload_ts <= next_ts
"""
"""Session ends. With u the first upload after a touch, the session ends there when the next touch is more
than $inactivity later or not before u; then no later t_obs lies before u, so u is this one's to label."""

RANGED = """
CREATE TEMP TABLE ranged AS
WITH starts AS (SELECT user_id, ts, min(position) AS position FROM positioned GROUP BY user_id, ts),
windows AS (SELECT *, t_obs - $lookback AS since FROM observed WHERE t_obs + $horizon <= $log_end)
SELECT w.user_id, w.t_obs, w.is_labelled, w.upload_ts, w.upload_id,
       greatest(s.position, w.position - $max_touches + 1) AS first_position,
       w.position AS last_position
FROM windows w ASOF JOIN starts s ON w.user_id = s.user_id AND w.since <= s.ts
"""
"""The touches of each observation: those since t_obs - $lookback, at most the last $max_touches."""

CONTROLS = """
CREATE TEMP TABLE controls AS
SELECT r.user_id, r.t_obs, count(*) AS n_control
FROM ranged r JOIN uploads u
  ON r.user_id = u.user_id AND u.ts >= r.t_obs - $control_start AND u.ts < r.t_obs - $control_end
GROUP BY r.user_id, r.t_obs
"""

SHARE = "('0x' || left(md5('{salt}' || CAST(user_id AS VARCHAR)), 8))::UBIGINT"
"""A uniform integer in [0, 2^32) from the user alone."""

JOURNEYS = """
CREATE TEMP TABLE journeys AS
WITH shared AS (SELECT *, {share} AS share FROM ranged),
split AS (
    SELECT *, CASE WHEN share < $fit_below THEN 'fit'
                   WHEN share < $selection_below THEN 'selection' ELSE 'judge' END AS split
    FROM shared
)
SELECT row_number() OVER (ORDER BY user_id, t_obs) - 1 AS journey_id, user_id, t_obs,
       first_position AS "offset", CAST(last_position - first_position + 1 AS INTEGER) AS length,
       CAST(coalesce(is_labelled, false) AS TINYINT) AS label,
       CASE WHEN is_labelled THEN upload_ts END AS label_ts,
       CASE WHEN is_labelled THEN upload_id END AS upload_id,
       CAST(coalesce(n_control, 0) AS FLOAT) AS n_control,
       CAST(greatest(0, floor(epoch(t_obs - $control_end - greatest(t_obs - $control_start, $log_start))
            / 86400)) AS SMALLINT) AS n_days_covered,
       split
FROM split LEFT JOIN controls USING (user_id, t_obs)
WHERE split <> 'judge' OR t_obs + $horizon + $post <= $log_end
"""

POST_EXPOSURES = """
SELECT journey_id, p.cluster_id, CAST(count(*) AS INTEGER) AS n_touches
FROM journeys j JOIN positioned p
  ON j.user_id = p.user_id AND p.ts > j.t_obs + $horizon AND p.ts <= j.t_obs + $horizon + $post
WHERE split = 'judge'
GROUP BY journey_id, p.cluster_id
ORDER BY journey_id, p.cluster_id
"""

COUNTS = """
SELECT count(*) AS journeys, coalesce(sum(label), 0)::BIGINT AS labels, count(DISTINCT user_id) AS users,
       count(*) FILTER (WHERE split = 'fit') AS fit,
       count(*) FILTER (WHERE split = 'selection') AS selection,
       count(*) FILTER (WHERE split = 'judge') AS judge,
       (SELECT count(*) FROM observed) AS observed,
       (SELECT count(*) FROM ranged) AS uncensored,
       (SELECT count(*) FROM positioned) AS touches
FROM journeys
"""
