"""A result as Markdown: three tables of methods x worlds, who wins or ties, then every figure of every world."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from benchmarks.accuracy.unit import ORACLE
from benchmarks.provenance import headline

FAMILIES = ("ours", "front-door", "back-door", "heuristic", ORACLE)
"""Order of the rows."""
EFFECTS = {
    "correlation": "corr", "slope": "slope", "pehe_over_sd": "PEHE/sd", "rmse": "RMSE", "bias": "bias",
    "cluster_spearman": "Spearman of clusters", "auuc_pooled": "AUUC", "auuc_bucket_1": "AUUC 1",
    "auuc_bucket_2": "AUUC 2", "auuc_bucket_3": "AUUC 3", "auuc_bucket_4": "AUUC 4", "auuc_bucket_5": "AUUC 5",
    "interval_coverage": "90% interval", "abstained_share": "abstained", "cpu_s": "CPU s",
}  # fmt: skip
USE = {
    "top1_efficiency": "top 1%", "top5_efficiency": "top 5%", "top10_efficiency": "top 10%",
    "top1_vs_last_touch": "top 1% / last touch", "top5_vs_last_touch": "top 5% / last touch",
    "top10_vs_last_touch": "top 10% / last touch", "top1_of_oracle": "top 1% / oracle",
    "top5_of_oracle": "top 5% / oracle", "top10_of_oracle": "top 10% / oracle", "precision": "precision",
    "recall": "recall", "coverage": "coverage", "touches_per_covered_upload": "touches per covered upload",
}  # fmt: skip
PREDICTION = {
    "upload_auc": "AUC", "upload_log_loss": "log-loss", "gauc_user": "gAUC by user", "gauc_author": "gAUC by author",
    "randomised_upload_auc": "AUC, randomised", "randomised_upload_log_loss": "log-loss, randomised",
    "randomised_p_error": "error of P(do T), randomised",
}  # fmt: skip
"""Figure -> heading of its column in one of a world's own tables."""

Row = Mapping[str, Any]


def to_markdown(result: Mapping[str, Any]) -> str:
    """The whole report."""
    methods, worlds = ordered(result), list(result["worlds"])
    rows = {(row["world"], row["method"]): row for row in result["results"]}

    def table(cell: Callable[[Row], str]) -> list[str]:
        lines = [[name, *(cell(rows[world, name]) for world in worlds)] for name in methods]
        return _table(["method", *worlds], lines)

    parts = [
        *_opening(result),
        "## Touch-level correlation with the true effects",
        "",
        *table(lambda row: with_spread(row, "correlation", 2)),
        "## AUUC against the truth in the worst bucket",
        "",
        "Normalised: a random order of the clusters has ½, the oracle 1. The lowest of the buckets' means over seeds.",
        "",
        *table(worst_bucket),
        "## Efficiency of the top 1% of touches",
        "",
        "Mean true effect of the touches with the 1% largest credits, over that of all touches.",
        "",
        *table(lambda row: with_spread(row, "top1_efficiency", 1)),
        *_verdicts(result),
        *_gains(result),
        *(line for world in worlds for line in _details(world, result, methods, rows)),
        *_failures(result),
    ]
    return "\n".join(parts).rstrip("\n") + "\n"


def ordered(result: Mapping[str, Any]) -> list[str]:
    """Methods by family, the oracle last."""
    family = {name: about["family"] for name, about in result["methods"].items()} | {ORACLE: ORACLE}
    return sorted(family, key=lambda name: FAMILIES.index(family[name]))


def worst_bucket(row: Row) -> str:
    """The lowest mean of a bucket, or what stands for it."""
    found = [value for name, value in row["mean"].items() if name.startswith("auuc_bucket_")]
    return f"{min(found):.3f}" if found else _nothing(row)


def with_spread(row: Row, name: str, digits: int) -> str:
    """mean ± sd (of several seeds), or what stands for it."""
    if name not in row["mean"]:
        return _nothing(row)
    spread = f" ± {row['sd'][name]:.{digits}f}" if name in row["sd"] else ""
    return f"{row['mean'][name]:.{digits}f}{spread}"


def _nothing(row: Row) -> str:
    return "failed" if row["failed"] and not row["mean"] else "–"


def _opening(result: Mapping[str, Any]) -> list[str]:
    settings = result["settings"]
    seeds = settings["seeds"]
    return [
        f"# Accuracy on {settings['set']} worlds, {settings['users']:,} users",
        "",
        headline(dict(result)),
        "",
        f"Mean ± standard deviation over the seeds {', '.join(map(str, seeds))}. Every method is fitted on the "
        "same users and asked about others; the worlds know the true effect of every touch. –: not defined, because "
        "the method predicts nothing of the kind or content has no effect in that world.",
        "",
    ]


def _verdicts(result: Mapping[str, Any]) -> list[str]:
    if not result["verdicts"]:
        return []
    said = [f"- {verdict['sentence']}" for verdict in result["verdicts"].values()]
    explained = (
        "A peer wins or ties where the 95% interval of the paired difference over seeds (ours minus the peer's) is "
        "below or contains zero: on correlation, or on AUUC in any of the buckets."
    )
    return ["## Where a peer wins or ties", "", explained, "", *said, ""]


def _gains(result: Mapping[str, Any]) -> list[str]:
    if not result["back_door_gain"]:
        return []
    lines = [
        [gain["world"], gain["figure"].removeprefix("auuc_bucket_"), gain["peer"], *_interval(gain)]
        for gain in result["back_door_gain"]
    ]
    return [
        "## Gain in AUUC over the best back-door peer",
        "",
        *_table(["world", "bucket", "best back-door peer", "gain", "95% interval"], lines),
    ]


def _interval(difference: Row) -> list[str]:
    if difference["low"] is None:
        return [f"{difference['mean']:+.3f}", "–"]
    return [f"{difference['mean']:+.3f}", f"{difference['low']:+.3f} to {difference['high']:+.3f}"]


def _details(
    world: str, result: Mapping[str, Any], methods: Sequence[str], rows: Mapping[tuple[str, str], Row]
) -> list[str]:
    """A world's facts, then its tables: of effects, of what credits are good for, of predictions."""
    about, holds = result["worlds"][world], result["holds"][world]
    facts = [
        f"front door {'holds' if about['front_door_holds'] else 'is violated'}",
        "confounded" if about["confounded"] else "not confounded",
        *(f"{name.replace('_', ' ')} {_number(value)}" for name, value in holds.items()),
    ]
    lines = [f"## World {world}", "", "; ".join(facts) + ".", ""]
    for columns in (EFFECTS, USE, PREDICTION):
        lines += _columns([rows[world, name] for name in methods], columns)
    return lines


def _columns(here: Sequence[Row], columns: Mapping[str, str]) -> list[str]:
    """The columns that some row has, and the rows that have one of them."""
    shown = [name for name in columns if any(name in row["mean"] for row in here)]
    lines = [
        [row["method"], *(_number(row["mean"].get(name)) for name in shown)]
        for row in here
        if any(name in row["mean"] for name in shown)
    ]
    return _table(["method", *(columns[name] for name in shown)], lines) if lines else []


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.3g}" if abs(value) < 100 else f"{value:,.0f}"


def _failures(result: Mapping[str, Any]) -> list[str]:
    failed = [
        f"- {row['method']} on {row['world']}, seed {seed}: {reason}"
        for row in result["results"]
        for seed, reason in row["failed"].items()
    ]
    return ["## Failed", "", *failed, ""] if failed else []


def _table(headings: Sequence[str], lines: Iterable[Sequence[str]]) -> list[str]:
    rule = "|---|" + "---:|" * (len(headings) - 1)
    return [f"| {' | '.join(headings)} |", rule, *(f"| {' | '.join(line)} |" for line in lines), ""]
