"""Outcome models on public journeys without responses: who tells P(Y=1 | T, x, n) best, over random splits by user.

`python -m benchmarks.public_journeys --logs DIR` writes public_journeys.json and public_journeys.md.

All models read the same journeys and controls, are fitted on 70% of the users, stopped or tuned on 10% and judged on
the other 20%. The gain over a peer is paired by split; splits share users, so its interval is the corrected resampled
t of Nadeau & Bengio (2003), "Inference for the generalization error", Machine Learning 52:

    mean ± t_{R−1} · sd · √(1/R + test users / other users)          over R splits
"""

from __future__ import annotations

import argparse
import logging
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from scipy.stats import t as student
from torch import Tensor

from benchmarks.methods.interface import Floats
from benchmarks.methods.journeys import journeys, with_covariates
from benchmarks.output import RESULTS, write_result
from benchmarks.provenance import headline, provenance
from features.errors import AlmMtaError
from model.data import HOUR_US, JourneyTable, load_journeys
from model.front_door import Sizes
from model.settings import ModelConfig, TrainConfig

logger = logging.getLogger(__name__)

FIT, SELECTION = 0.7, 0.1
OURS = "outcome network"
PASSES = 8
PACKAGES = ("alm-mta", "duckdb", "lightning", "numpy", "scikit-learn", "torch")

Predict = Callable[[JourneyTable, Tensor, int], Floats]
"""(table, rows [J], seed) -> P(Y=1) of the rows, from a fit on split 'fit' with 'selection' to stop or tune on."""


def outcome_network(table: JourneyTable, row_J: Tensor, seed: int) -> Floats:
    """c(T, x, n) of the front-door model: what a run fits when there are no responses."""
    return _outcome(table, row_J, _unhurried(seed))


def outcome_network_by_default(table: JourneyTable, row_J: Tensor, seed: int) -> Floats:
    """The same by the default settings, which bound the steps whatever the size of the logs."""
    return _outcome(table, row_J, TrainConfig(seed=seed, accelerator="cpu"))


def _outcome(table: JourneyTable, row_J: Tensor, config: TrainConfig) -> Floats:
    from benchmarks.methods.ours import run_product

    p_J = run_product(table, row_J, None, config.seed, config=config).p_J
    assert p_J is not None
    return p_J


def lstm(table: JourneyTable, row_J: Tensor, seed: int) -> Floats:
    """DNAMTA (benchmarks/methods/dnamta.py)."""
    from benchmarks.methods.dnamta import Dnamta

    return _network(Dnamta, with_covariates(table, table), row_J, seed)


def naive(table: JourneyTable, row_J: Tensor, seed: int) -> Floats:
    """P(Y | T, x), blind to n: what credits come from when there are no responses."""
    from model.baselines.naive import NaiveModel

    return _network(lambda sizes: NaiveModel(ModelConfig(), sizes), table, row_J, seed)


def _network(build: Callable[[Sizes], Any], table: JourneyTable, row_J: Tensor, seed: int) -> Floats:
    """A network of a batch's logit, by the product's trainer."""
    import lightning

    from benchmarks.methods.training import over_journeys
    from model.module import NaiveModule, plan_schedule
    from model.train import fit

    config = _unhurried(seed)
    lightning.seed_everything(seed, verbose=False)
    network = build(table.sizes)
    module = NaiveModule(network, config, plan_schedule(config, len(table.split("fit"))))
    with tempfile.TemporaryDirectory() as checkpoints:
        fit("network", module, table, Path(checkpoints))
    network.cpu().eval()
    return over_journeys(table, row_J, lambda batch: torch.sigmoid(network(batch)))


def _unhurried(seed: int) -> TrainConfig:
    """As many passes as a network needs: PASSES at most, stopped on the selection split."""
    return TrainConfig(seed=seed, max_epochs=PASSES, max_steps=10**9, accelerator="cpu")


def logistic(table: JourneyTable, row_J: Tensor, seed: int) -> Floats:  # noqa: ARG001
    """Logistic regression on `features`, its penalty chosen on the selection split."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import log_loss
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    data = features(table, row_J)
    models = [make_pipeline(StandardScaler(), LogisticRegression(C=c, max_iter=1000)) for c in (1e-3, 1e-2, 1e-1, 1.0)]

    def loss(model: Any) -> float:
        p_J = model.fit(data.fit_JF, data.fit_label_J).predict_proba(data.selection_JF)[:, 1]
        return float(log_loss(data.selection_label_J, p_J))

    return np.asarray(min(models, key=loss).predict_proba(data.asked_JF)[:, 1])


def boosting(table: JourneyTable, row_J: Tensor, seed: int) -> Floats:
    """Histogram gradient boosting on `features`, stopped on the selection split."""
    from sklearn.ensemble import HistGradientBoostingClassifier
    from threadpoolctl import threadpool_limits

    data = features(table, row_J)
    trees = HistGradientBoostingClassifier(
        learning_rate=0.05, max_iter=500, early_stopping=True, n_iter_no_change=20, random_state=seed
    )
    with threadpool_limits(1):  # more threads spin where cores are shared
        trees.fit(data.fit_JF, data.fit_label_J, X_val=data.selection_JF, y_val=data.selection_label_J)
        return np.asarray(trees.predict_proba(data.asked_JF)[:, 1])


MODELS: dict[str, Predict] = {
    OURS: outcome_network,
    "outcome network, default steps": outcome_network_by_default,
    "gradient boosting": boosting,
    "LSTM with attention": lstm,
    "logistic regression": logistic,
    "naive network, without n": naive,
}


@dataclass(frozen=True, kw_only=True)
class Features:
    """Journeys as rows of numbers, for models that read no sequence."""

    fit_JF: Floats
    fit_label_J: Floats
    selection_JF: Floats
    selection_label_J: Floats
    asked_JF: Floats


def features(table: JourneyTable, row_J: Tensor) -> Features:
    """Per cluster: touches, decayed touches, whether it is the last; length, span, time since the one before; x, n."""
    data = journeys(table, row_J, None)

    def columns(part: Any, row_J: Tensor) -> Floats:
        return np.column_stack([part.count_JK, part.dose_JK, part.covariate_JZ, _recency(table, row_J)])

    return Features(
        fit_JF=columns(data.fit, table.split("fit")),
        fit_label_J=data.fit.label_J,
        selection_JF=columns(data.selection, table.split("selection")),
        selection_label_J=data.selection.label_J,
        asked_JF=columns(data.asked, row_J),
    )


def _recency(table: JourneyTable, row_J: Tensor) -> Floats:
    last_J, length_J, first_J = table.last_touch(row_J), table.length_J[row_J], table.offset_J[row_J]
    before_J = torch.maximum(last_J - 1, first_J)
    hours_J2 = (table.t_obs_J[row_J][:, None] - table.touch_ts_N[torch.stack([first_J, before_J], 1)]) / HOUR_US
    last_JK = torch.nn.functional.one_hot(table.touch_cluster_N[last_J], table.sizes.clusters + 1)
    alone_J = (length_J == 1).double()
    return torch.cat([last_JK, length_J.log()[:, None], hours_J2.log1p(), alone_J[:, None]], 1).double().numpy()


def prepare(logs_root: Path, work: Path) -> JourneyTable:
    """Journeys with their controls, as a run prepares them; no judge's window is kept clear, the splits come later."""
    from benchmarks.prepared import prepare_logs
    from features.journeys import JourneyConfig

    prepare_logs(logs_root, work, JourneyConfig(fit_share=0.9, selection_share=0.0999))
    return load_journeys(work / "journeys", work / "data")


def history_days(logs_root: Path) -> dict[str, Any]:
    """Days from a user's first touch to the last, of users with an upload and of the others."""
    touch = pd.read_parquet(logs_root / "touchpoints", columns=["user_id", "ts"]).groupby("user_id")["ts"]
    days_U = (touch.max() - touch.min()).dt.total_seconds() / 86_400
    converts_U = days_U.index.isin(pd.read_parquet(logs_root / "uploads", columns=["user_id"])["user_id"])
    groups = {"converting": days_U[converts_U], "others": days_U[~converts_U]}
    return {name: {"median": float(d.median()), "longest": float(d.max())} for name, d in groups.items()}


def split_by_user(table: JourneyTable, rng: np.random.Generator) -> JourneyTable:
    """The same journeys under a fresh random split of their users."""
    user_U = rng.permutation(table.keys["user_id"].unique())
    cuts = (round(FIT * len(user_U)), round((FIT + SELECTION) * len(user_U)))
    name_U = np.repeat(["fit", "selection", "judge"], np.diff([0, *cuts, len(user_U)]))
    split_J = table.keys["user_id"].map(pd.Series(name_U, index=user_U)).to_numpy()
    return replace(table, keys=table.keys.assign(split=split_J))


def score(table: JourneyTable, name: str, seed: int) -> dict[str, Any]:
    """AUC and log-loss of one model on the judged users of one split."""
    from sklearn.metrics import log_loss, roc_auc_score

    row_J = table.split("judge")
    began = time.perf_counter()
    p_J = MODELS[name](table, row_J, seed)
    label_J = table.label_J[row_J].numpy()
    scored = {
        "model": name,
        "seed": seed,
        "auc": float(roc_auc_score(label_J, p_J)),
        "log_loss": float(log_loss(label_J, p_J)),
        "seconds": time.perf_counter() - began,
    }
    logger.info("split %d, %s: AUC %.4f, log-loss %.4f", seed, name, scored["auc"], scored["log_loss"])
    return scored


def summarise(scores: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Mean and sd over the splits, and ours minus each peer with its 95% interval."""
    by_model = {name: [s for s in scores if s["model"] == name] for name in dict.fromkeys(s["model"] for s in scores)}
    rows = []
    for name, mine in by_model.items():
        row: dict[str, Any] = {"model": name, "seconds": float(np.mean([s["seconds"] for s in mine]))}
        for metric in ("auc", "log_loss"):
            value_R = np.array([s[metric] for s in mine])
            row[metric] = {"mean": float(value_R.mean()), "sd": float(value_R.std(ddof=1))}
            if name != OURS:
                ours_R = np.array([s[metric] for s in by_model[OURS]])
                row[f"ours_minus_{metric}"] = paired_gain(ours_R - value_R)
        rows.append(row)
    return rows


def paired_gain(gain_R: Floats) -> dict[str, float]:
    """Mean of paired gains over random splits, and its 95% interval."""
    splits, test = len(gain_R), 1 - FIT - SELECTION
    half = student.ppf(0.975, splits - 1) * gain_R.std(ddof=1) * np.sqrt(1 / splits + test / (1 - test))
    return {"mean": float(gain_R.mean()), "low": float(gain_R.mean() - half), "high": float(gain_R.mean() + half)}


def to_markdown(result: dict[str, Any]) -> str:
    """The summary as a table under the command that made it, and what it does not show."""
    rows = []
    for row in result["summary"]:
        cells = [f"{row[m]['mean']:.4f} ± {row[m]['sd']:.4f}" for m in ("auc", "log_loss")]
        gains = [
            "{mean:+.4f} ({low:+.4f} to {high:+.4f})".format(**row[f"ours_minus_{m}"]) if row["model"] != OURS else ""
            for m in ("auc", "log_loss")
        ]
        rows.append(f"| {' | '.join([row['model'], *cells, *gains])} | {row['seconds']:.0f} |")
    return MARKDOWN.format(headline=headline(result), table="\n".join(rows), passes=PASSES, ours=OURS, **result)


MARKDOWN = """# Outcome models on the public Criteo journeys

{headline}

{journeys:,} journeys of {users:,} users, {label_rate:.1%} with a conversion; {splits} random splits by user: 70% to
fit, 10% to stop or tune on, 20% judged. All models but the last read the same touches and controls (there are no
responses, profiles or embeddings). Networks take up to {passes} passes under one trainer, stopped on the second part;
the product's default settings stop earlier on logs of this size. Mean ± sd over the splits; gains are those of the
'{ours}' over the row, paired by split, with 95% intervals corrected for the users that splits share (Nadeau & Bengio,
2003).

| model | AUC | log-loss | ours − it, AUC | ours − it, log-loss | s a fit |
|---|---:|---:|---:|---:|---:|
{table}

What this does not show:

- **AUC is no evidence of causality.** These journeys have no responses, so there is no mediator to see: the pipeline
  says so and promotes nothing on them, and no effect is known to hold credits against. Credits are judged on worlds
  with known truth.
- Much of every AUC here is how the data were made: a conversion comes one minute after the last touch, and users who
  convert are seen for up to {history[converting][longest]:.1f} days (median {history[converting][median]:.1f}), all
  others for at most {history[others][longest]:.1f} (median {history[others][median]:.1f}). Whoever has been seen for
  longer converts, whatever was shown.
- The published figures on Criteo (.973 for ALM-MTA, .966 for its best peer) are of another preparation of the data;
  neither can be read against these.
- 'naive network, without n' is what credits come from when there are no responses: it reads the touches alone, on
  purpose.
"""


def main(arguments: list[str] | None = None) -> int:
    """Fit every model on every split and write the results; 0 done, 1 the logs or a fit failed."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.public_journeys", description=(__doc__ or "").splitlines()[0]
    )
    parser.add_argument("--logs", type=Path, required=True, help="journeys in the log contract")
    parser.add_argument("--splits", type=int, default=5, help="random splits by user (default: %(default)s)")
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder of the results (default: benchmarks/results)")
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    torch.set_num_threads(1)
    try:
        with tempfile.TemporaryDirectory(prefix="alm-mta-bench-") as work:
            table = prepare(options.logs, Path(work))
        scores = [
            score(split_by_user(table, np.random.default_rng(seed)), name, seed)
            for seed in range(1, options.splits + 1)
            for name in MODELS
        ]
    except AlmMtaError as failure:
        logger.error("%s", failure)
        return 1
    result = provenance("benchmarks.public_journeys", arguments, PACKAGES) | {
        "journeys": len(table.keys),
        "users": int(table.keys["user_id"].nunique()),
        "label_rate": float(table.label_J.mean()),
        "history": history_days(options.logs),
        "splits": options.splits,
        "summary": summarise(scores),
        "scores": scores,
    }
    logger.info("wrote %s", write_result(options.out, "public_journeys", result, to_markdown(result)))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
