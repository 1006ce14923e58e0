"""The paper's ablation replayed on known truth, and carried on to the product's own model, a part a step.

`python -m benchmarks.ablation --worlds logit,contaminated --users 20000 --seeds 3` writes ablation.json, .md and .svg:
what each step says of observed uploads (AUC, log-loss) beside what its credits are worth (`accuracy/metrics.py`).
Steps 1 to 3 are the published model (`model/paper`), 4 to 6 the product's own (`model/front_door.py`). Some touches'
exposure is drawn at random, or the last step would have nothing to calibrate on.
"""

from __future__ import annotations

import contextlib
import io
import shlex
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from jsonargparse import Namespace
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from benchmarks.accuracy import cli as accuracy
from benchmarks.accuracy.figures import STYLE
from benchmarks.accuracy.report import with_spread, worst_bucket
from benchmarks.accuracy.result import to_json
from benchmarks.accuracy.unit import ORACLE
from benchmarks.methods.interface import Method
from benchmarks.methods.ours import run_product
from benchmarks.methods.paper import SOURCE, run_paper
from benchmarks.output import RESULTS, write_texts
from benchmarks.provenance import headline
from features.files import read_json
from model.paper.settings import PaperConfig
from model.settings import ModelConfig, TrainConfig
from pipelines.cli_parser import parser_for

PUBLISHED = PaperConfig()
ADVERSARIAL = replace(PUBLISHED, contrastive=False, top_k=0)
DIRECT = replace(ADVERSARIAL, adversary=False, direct_proxy=True)
AS_MEASURED = ModelConfig(denoise=False, calibrate=False)

TITLES = {
    "1-direct-proxy": "direct proxy (leaks)",
    "2-adversary": "+ adversary",
    "3-contrastive": "+ contrastive, top-K",
    "4-response-mediator": "+ response mediator",
    "5-within-journey": "+ within-journey contrast",
    "6-calibration": "+ calibration",
}
_PAPER = {"1-direct-proxy": DIRECT, "2-adversary": ADVERSARIAL, "3-contrastive": PUBLISHED}
_OURS = {
    "4-response-mediator": (AS_MEASURED, TrainConfig(within_journey=False)),
    "5-within-journey": (AS_MEASURED, TrainConfig()),
    "6-calibration": (ModelConfig(), TrainConfig()),
}
STEPS: dict[str, Method] = {
    **{
        name: Method(name=name, family="front-door", source=SOURCE, run=partial(run_paper, config=config))
        for name, config in _PAPER.items()
    },
    **{
        name: Method(
            name=name, family="ours", source="alm-mta", run=partial(run_product, model_config=model, config=train)
        )
        for name, (model, train) in _OURS.items()
    },
}
"""The methods of the steps, in order."""

PREDICTS = {"upload_auc": ("AUC", 3), "upload_log_loss": ("log-loss", 3)}
CAUSES = {
    "correlation": ("corr", 2), "slope": ("slope", 2), "pehe_over_sd": ("PEHE/sd", 2), "auuc_pooled": ("AUUC", 3),
    "top1_efficiency": ("top 1%", 1),
}  # fmt: skip
"""Figure -> heading and digits."""

Row = Mapping[str, Any]


def main(arguments: list[str] | None = None, methods_at: str = "benchmarks.ablation:STEPS") -> int:
    """The paper's ablation and the product's parts after it: predicting uploads against crediting their causes."""
    options = _parse(sys.argv[1:] if arguments is None else arguments)
    with tempfile.TemporaryDirectory() as folder:
        with contextlib.redirect_stdout(io.StringIO()):  # where the accuracy benchmark put its own report
            code = accuracy.main(_accuracy_arguments(options, Path(folder)), methods_at)
        result = read_json(Path(folder) / "accuracy-ablation.json")
    result |= {"command": _command(options), "titles": TITLES}
    texts = {".json": to_json(result), ".md": to_markdown(result), ".svg": figure(result)}
    write_texts(options.out, "ablation", texts)
    sys.stdout.write(f"wrote ablation.json, .md and .svg to {options.out}\n")
    return code


def _parse(arguments: list[str]) -> Namespace:
    parser = parser_for("benchmark ablation", main.__doc__ or "")
    parser.add_argument("--worlds", type=str, default="logit,contaminated", help="comma-separated")
    parser.add_argument("--users", type=int, default=20_000, help="users of each data set")
    parser.add_argument("--seeds", type=int, default=3, help="data sets of each world")
    parser.add_argument("--set", type=str, default="report", help="report or selection worlds")
    parser.add_argument("--randomised-share", type=float, default=0.05, help="touches drawn at random, to calibrate on")
    parser.add_argument("--jobs", type=int, default=2, help="processes, of one thread each")
    parser.add_argument("--fresh", action="store_true", help="compute anew, whatever is kept")
    parser.add_argument("--work", type=Path, default=Path("work/benchmark-ablation"), help="where records are kept")
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder of the results")
    return parser.parse_args(arguments)


def _accuracy_arguments(options: Namespace, out: Path) -> list[str]:
    passed = ("worlds", "users", "seeds", "set", "randomised_share", "jobs", "work")
    words = [word for name in passed for word in (f"--{name.replace('_', '-')}", str(options[name]))]
    return [*words, "--name", "ablation", "--out", str(out), *(["--fresh"] if options.fresh else [])]


def _command(options: Namespace) -> str:
    """What repeats the result, wherever it is kept and however many processes do it."""
    named = ("set", "worlds", "users", "seeds", "randomised_share")
    words = [word for name in named for word in (f"--{name.replace('_', '-')}", str(options[name]))]
    return shlex.join(["alm-mta", "benchmark", "ablation", *words])


def to_markdown(result: Mapping[str, Any]) -> str:
    """A table a world, and what it shows."""
    settings, rows = result["settings"], {(row["world"], row["method"]): row for row in result["results"]}
    seeds = settings["seeds"]
    lines = [
        f"# Ablation, {settings['users']:,} users",
        "",
        headline(dict(result)),
        "",
        f"Mean ± standard deviation over {len(seeds)} seeds ({seeds[0]} to {seeds[-1]}) of {settings['set']} worlds, "
        f"with {settings['randomised_share']:.0%} of the touches drawn at random. AUC and log-loss are of observed "
        "uploads; all that follows holds the credits against the true effects. Steps 1 to 3 re-implement the paper, "
        "and step 1 reads the proxy of the very upload it predicts; steps 4 to 6 are the product's own model.",
    ]
    for world in _worlds(result):
        lines += ["", f"## World {world}", "", *_table(world, rows), "", _lesson(world, rows)]
    return "\n".join([*lines, "", "![AUC and truth by step](ablation.svg)", ""])


def _worlds(result: Mapping[str, Any]) -> list[str]:
    """As they were asked for."""
    return list(dict.fromkeys(row["world"] for row in result["results"]))


def _table(world: str, rows: Mapping[tuple[str, str], Row]) -> list[str]:
    columns = PREDICTS | CAUSES
    headings = ["step", *(heading for heading, _ in columns.values()), "AUUC, worst bucket"]
    lines = [f"| {' | '.join(headings)} |", "|---" + "|---:" * (len(headings) - 1) + "|"]
    for name, title in [*TITLES.items(), (ORACLE, ORACLE)]:
        row = rows[world, name]
        cells = [with_spread(row, figure, digits) for figure, (_, digits) in columns.items()]
        lines.append(f"| {' | '.join([title, *cells, worst_bucket(row)])} |")
    return lines


def _lesson(world: str, rows: Mapping[tuple[str, str], Row]) -> str:
    """Whether the step that predicts best is also the one that credits best."""
    mean = {name: rows[world, name]["mean"] for name in TITLES if "correlation" in rows[world, name]["mean"]}
    if not mean:
        return "Content has no effect here: there is nothing to credit."
    predicts, causes = (max(mean, key=lambda name: mean[name].get(key, 0)) for key in ("upload_auc", "correlation"))
    said = [
        f"'{TITLES[name].removeprefix('+ ')}' {what}: AUC {mean[name]['upload_auc']:.3f}, correlation "
        f"{mean[name]['correlation']:.2f}"
        for name, what in ((predicts, "predicts uploads best"), (causes, "credits causes best"))
    ]
    return f"{'; '.join(said)}." + (" Discriminative power is not causal validity." if predicts != causes else "")


def figure(result: Mapping[str, Any]) -> str:
    """A panel a world: observational AUC and correlation with the truth, step by step. SVG."""
    mean = {(row["world"], row["method"]): row["mean"] for row in result["results"]}
    worlds = _worlds(result)
    with rc_context(STYLE):
        drawn = Figure(figsize=(2.2 + 2.6 * len(worlds), 3.4), layout="constrained")
        panels = drawn.subplots(1, len(worlds), sharey=True, squeeze=False)[0]
        for axes, world in zip(panels, worlds, strict=True):
            _panel(axes, world, [mean[world, name] for name in TITLES])
        panels[0].set_yticks(range(len(TITLES)), TITLES.values())
        panels[0].invert_yaxis()
        handles, labels = panels[0].get_legend_handles_labels()
        drawn.legend(handles, labels, loc="outside lower center", ncols=2, frameon=False)
        buffer = io.StringIO()
        drawn.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
    return "\n".join(line.rstrip() for line in buffer.getvalue().splitlines()) + "\n"


def _panel(axes: Axes, world: str, means: Sequence[Mapping[str, float]]) -> None:
    shown = {
        "upload_auc": ("AUC of observed uploads", "#d1761f", "s"),
        "correlation": ("correlation with the true effects", "#0b5fa5", "o"),
    }
    for name, (label, colour, marker) in shown.items():
        points = [(row[name], step) for step, row in enumerate(means) if name in row]
        if points:
            axes.plot(*zip(*points, strict=True), color=colour, marker=marker, markersize=5, label=label, linewidth=1)
    axes.set_title(world, fontsize=9)
    axes.set_xlim(-0.05, 1.05)
    axes.axvline(0, color="#bbbbbb", linewidth=0.7)
    axes.spines[["top", "right"]].set_visible(False)


if __name__ == "__main__":
    raise SystemExit(main())
