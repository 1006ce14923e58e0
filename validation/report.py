"""The report of an evaluation: one self-contained HTML page, without scripts and without requests.

It is shown inside a sandboxed frame by the Kubeflow UI, mailed around, and read on telephones, in light and in dark.
Everything that evaluation.json lacks is left out; everything that it holds is escaped.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from markupsafe import Markup

from features.files import atomic_file
from validation import formats
from validation.figures import Line, line_chart

JUDGES = {
    "OBS": "Observational judge: uplift per cluster, adjusted by negative controls",
    "FD": "Front-door judge: uplift per cluster through the measured responses",
    "randomised": "Randomised exposures: an audit by design, unbiased and wide",
    "truth": "Known truth of the simulated world",
    "IPW": "Inverse propensity weights: shown for comparison, confounded",
    "raw": "Raw difference: shown for comparison, confounded",
}
"""Judges in the order of the page; the last two never decide."""
COMPARISON_ONLY = ("IPW", "raw")

RANKINGS = {
    "candidate": "Candidate",
    "champion": "Champion",
    "last_touch": "Last touch",
    "naive": "Naive leave-one-out",
}

TRUTH_ROWS = {
    "truth_corr": ("Correlation of credits with the true effects", "1 is perfect"),
    "truth_slope": ("Slope of truth on estimate", "1 is calibrated"),
    "truth_pehe_over_sd": ("Error (PEHE) over the truth's standard deviation", "0 is perfect, 1 says nothing"),
    "truth_cluster_spearman": ("Rank correlation over clusters", "1 is perfect"),
    "top1_efficiency": ("Effect of the 1% of touches with most credit, times the average", "higher is better"),
}
HEADLINES = {
    "truth_corr": "correlation with the known truth",
    "auuc_candidate_OBS": "AUUC, observational judge",
    "auuc_candidate_FD": "AUUC, front-door judge",
    "coverage": "of uploads have credited touches",
    "touches_per_covered_upload": "credited touches per covered upload",
    "upload_auc": "AUC of upload prediction (not causal)",
}
VERDICTS = {
    "approved": "The candidate replaces the champion.",
    "rejected": "The candidate is not promoted.",
    "inconclusive": "The logs cannot decide. Nothing is promoted.",
}


def render_report(evaluation: Mapping[str, Any], out: Path) -> None:
    """Write the page for `evaluation` (the content of evaluation.json) to the file `out`.

    Raises KeyError when the verdict is missing.
    """
    from jinja2 import Environment, PackageLoader

    environment = Environment(
        loader=PackageLoader("validation"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters.update(
        number=formats.number,
        percent=formats.percent,
        uplift=formats.uplift,
        interval=formats.interval,
        words=formats.words,
    )
    page = environment.get_template("report.html.j2").render(page_of(evaluation))
    with atomic_file(out) as temporary:
        temporary.write_text(page, encoding="utf-8")


def page_of(evaluation: Mapping[str, Any]) -> dict[str, Any]:
    """What the template shows, section by section; an absent section is empty."""
    metrics = evaluation.get("metrics", {})
    rankings = _rankings(evaluation)
    return {
        "verdict": evaluation["verdict"],
        "consequence": VERDICTS.get(evaluation["verdict"], ""),
        "reasons": evaluation.get("reasons", []),
        "headlines": _headlines(metrics),
        "truth": _truth(metrics),
        "identification": evaluation.get("identification", []),
        "rankings": rankings,
        "judges": _judges(evaluation, rankings),
        "areas": _areas(evaluation, rankings),
        "gate": _gate(evaluation.get("gate", {})),
        "falsification": evaluation.get("falsification", []),
        "sensitivity": evaluation.get("sensitivity", []),
        "calibration": _calibration(evaluation.get("calibration", [])),
        "clusters": _clusters(evaluation.get("clusters", [])),
        "creators": evaluation.get("creators", []),
        "losses": _losses(evaluation.get("training", {}).get("epochs", [])),
        "data_quality": evaluation.get("data_quality", []),
        "counts": evaluation.get("counts", {}),
        "metrics": dict(sorted(metrics.items())),
        "model": evaluation.get("model", {}),
    }


def _rankings(evaluation: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Rankings with the line style they keep through the page."""
    names = evaluation.get("rankings") or sorted({curve["ranking"] for curve in evaluation.get("curves", [])})
    known = list(RANKINGS)
    styles = {name: known.index(name) if name in known else len(known) for name in names}
    return [{"name": name, "label": RANKINGS.get(name, name), "style": styles[name]} for name in names]


def _headlines(metrics: Mapping[str, float]) -> list[dict[str, str]]:
    shown = [(name, text) for name, text in HEADLINES.items() if name in metrics]
    return [
        {"value": formats.percent(metrics[n], 0) if n == "coverage" else formats.number(metrics[n]), "text": text}
        for n, text in shown[:5]
    ]


def _truth(metrics: Mapping[str, float]) -> dict[str, Any]:
    """Candidate and others side by side: metric `m` is the candidate's, `m_<ranking>` another's."""
    known = {**RANKINGS, "oracle": "Best possible"}
    others = [name for name in known if any(f"{metric}_{name}" in metrics for metric in TRUTH_ROWS)]
    rows = [
        {
            "text": text,
            "ideal": ideal,
            "values": [metrics.get(metric), *(metrics.get(f"{metric}_{name}") for name in others)],
        }
        for metric, (text, ideal) in TRUTH_ROWS.items()
        if metric in metrics
    ]
    return {"columns": ["Candidate", *(known[name] for name in others)], "rows": rows} if rows else {}


def _judges(evaluation: Mapping[str, Any], rankings: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Judges that have curves, each with one small chart per bucket on a common vertical scale."""
    curves = evaluation.get("curves", [])
    buckets = {bucket["bucket"]: bucket for bucket in evaluation.get("buckets", [])}
    present = [name for name in JUDGES if any(curve["judge"] == name for curve in curves)]
    present += sorted({curve["judge"] for curve in curves} - set(JUDGES))
    judges = []
    for name in present:
        own = [curve for curve in curves if curve["judge"] == name]
        limits = _limits(own)
        panels = [
            _panel([curve for curve in own if curve["bucket"] == bucket], buckets.get(bucket, {}), rankings, limits)
            for bucket in sorted({curve["bucket"] for curve in own}, key=str)
        ]
        minor = name in COMPARISON_ONLY
        judges.append({"name": name, "text": JUDGES.get(name, name), "minor": minor, "panels": panels})
    return judges


def _limits(curves: Sequence[Mapping[str, Any]]) -> tuple[float, float]:
    values = [formats.PER_THOUSAND * float(value) for curve in curves for value in (*curve["gain"], 0.0)]
    for curve in curves:
        if curve["ranking"] == "candidate" and curve.get("low") and curve.get("high"):
            values += [formats.PER_THOUSAND * float(value) for value in (*curve["low"], *curve["high"])]
    margin = 0.05 * (max(values) - min(values)) or 1.0
    return min(values) - margin, max(values) + margin


def _panel(
    curves: Sequence[Mapping[str, Any]],
    bucket: Mapping[str, Any],
    rankings: Sequence[Mapping[str, Any]],
    limits: tuple[float, float],
) -> dict[str, Any]:
    by_ranking = {curve["ranking"]: curve for curve in curves}
    lines = [_line(by_ranking[r["name"]], r["style"]) for r in rankings if r["name"] in by_ranking]
    number = curves[0]["bucket"]
    title = f"Bucket {number + 1}" if isinstance(number, int) else "All buckets"
    chart = line_chart(
        lines,
        label=f"{title}: cumulative uplift against share of exposure",
        x_label="share of exposure",
        x_ticks=(0, 0.5, 1),
        y_limits=limits,
        chord=True,
    )
    return {"title": title, "bucket": bucket, "chart": Markup(chart)}


def _line(curve: Mapping[str, Any], style: int) -> Line:
    def scaled(name: str) -> list[float] | None:
        values = curve.get(name)
        return None if values is None else [formats.PER_THOUSAND * float(value) for value in values]

    with_band = curve["ranking"] == "candidate"  # four bands over each other would hide all four lines
    return Line(
        x=[float(value) for value in curve["share"]],
        y=scaled("gain") or [],
        style=style,
        low=scaled("low") if with_band else None,
        high=scaled("high") if with_band else None,
    )


def _areas(evaluation: Mapping[str, Any], rankings: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """A table per choice of bucket ('all' first): rows are rankings, columns are judges."""
    areas = evaluation.get("auuc", [])
    judges = [name for name in JUDGES if any(area["judge"] == name for area in areas)]
    judges += sorted({area["judge"] for area in areas} - set(JUDGES))
    cells = {(area["bucket"], area["ranking"], area["judge"]): area for area in areas}
    tables = []
    for bucket in sorted({area["bucket"] for area in areas}, key=lambda b: (b != "all", str(b))):
        rows = [
            {"label": ranking["label"], "cells": [cells.get((bucket, ranking["name"], judge)) for judge in judges]}
            for ranking in rankings
        ]
        title = "All buckets" if bucket == "all" else f"Bucket {bucket + 1}"
        tables.append({"title": title, "judges": judges, "rows": rows})
    return tables


def _gate(gate: Mapping[str, Any]) -> dict[str, Any]:
    """The gate's record, each key with the tone of its interval: surely better, surely worse, or neither."""

    def tone(low: float | None, high: float | None) -> str:
        if low is None or high is None:
            return ""
        return "good" if low > 0 else "bad" if high < 0 else ""

    keys = [{**key, "tone": tone(key.get("low"), key.get("high"))} for key in gate.get("keys", [])]
    return {**gate, "keys": keys}


def _calibration(points: Sequence[Mapping[str, Any]]) -> Markup | None:
    """Observed upload rates with their intervals against predicted ones, and the line where both agree."""
    if not points:
        return None
    x = [float(point["predicted"]) for point in points]
    low, y, high = ([float(point[name]) for point in points] for name in ("low", "observed", "high"))
    ends = [0.0, max(*x, *y)]
    lines = [Line(x=x, y=y, style=0, low=low, high=high), Line(x=ends, y=ends, style=2)]
    chart = line_chart(
        lines, label="calibration: observed against predicted upload rate", x_label="predicted",
        x_ticks=[0, round(ends[1] / 2, 2), round(ends[1], 2)],
    )  # fmt: skip
    return Markup(chart)


def _clusters(clusters: Sequence[Mapping[str, Any]]) -> dict[str, list[Mapping[str, Any]]]:
    """The ten most and the ten least inspiring clusters, none in both lists."""
    unique = {cluster["cluster_id"]: cluster for cluster in clusters}
    ranked = sorted(unique.values(), key=lambda cluster: (-cluster["mean_delta"], str(cluster["cluster_id"])))
    top = ranked[:10]
    return {"top": top, "bottom": ranked[len(top) :][-10:][::-1]} if ranked else {}


def _losses(epochs: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """A chart per quantity that has a training or validation curve, the total loss first."""
    names = sorted({key.removeprefix("train_").removeprefix("selection_") for row in epochs for key in row} - {"epoch"})
    names.sort(key=lambda name: name != "loss")
    return [{"title": formats.words(name), "chart": Markup(_loss_chart(name, epochs))} for name in names[:6]]


def _loss_chart(name: str, epochs: Sequence[Mapping[str, Any]]) -> str:
    lines = []
    for style, key in enumerate((f"selection_{name}", f"train_{name}", name)):
        points = [(float(row["epoch"]), float(row[key])) for row in epochs if row.get(key) is not None]
        if points:
            x, y = zip(*points, strict=True)
            lines.append(Line(x=x, y=y, style=style))
    return line_chart(lines, label="curve over epochs", x_label="epoch")
