"""The ablation's steps, and its report made from methods that cost nothing."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from small_world import Prepared
from torch import Tensor

from benchmarks.ablation import ADVERSARIAL, DIRECT, PUBLISHED, STEPS, TITLES, figure, main, to_markdown
from benchmarks.methods import Method, Scores
from benchmarks.methods.paper import run_paper
from features.files import read_json
from model.data import JourneyTable, load_journeys
from model.paper.settings import PaperConfig
from model.settings import TrainConfig


def fake(
    table: JourneyTable,
    row_J: Tensor,
    randomised: JourneyTable | None,  # noqa: ARG001
    seed: int,
    sharpness: float,
) -> Scores:
    """Credits by cluster that are worth nothing; predictions that read the label as sharply as told."""
    batch = table.batch(row_J)
    noise_J = np.random.default_rng(seed).random(len(row_J))
    return Scores(
        credit_N=batch.treatment.cluster_BL[batch.treatment.mask_BL.bool()].numpy().astype(np.float64),
        p_J=0.1 + 0.4 * noise_J + sharpness * batch.label_B.numpy(),
    )


FAKES = {
    name: Method(name=name, family="ours", source="a test", run=partial(fake, sharpness=0.4 - 0.05 * step))
    for step, name in enumerate(TITLES)
}


def test_the_steps_are_the_papers_then_ours() -> None:
    assert list(STEPS) == list(TITLES)
    assert [method.family for method in STEPS.values()] == ["front-door"] * 3 + ["ours"] * 3
    on = [(c.direct_proxy, c.adversary, c.contrastive) for c in (DIRECT, ADVERSARIAL, PUBLISHED)]
    assert on == [(True, False, False), (False, True, False), (False, True, True)]
    ours: list[dict[str, Any]] = [getattr(STEPS[name].run, "keywords") for name in list(STEPS)[3:]]  # noqa: B009
    assert [step["config"].within_journey for step in ours] == [False, True, True]
    assert [step["model_config"].calibrate for step in ours] == [False, False, True]


def test_main_reports_every_step(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    arguments = ["--worlds", "logit", "--users", "200", "--seeds", "1", "--jobs", "1"]
    places = ["--work", str(tmp_path / "work"), "--out", str(out)]
    assert main([*arguments, *places], methods_at="test_ablation:FAKES") == 0
    assert "ablation.json" in capsys.readouterr().out
    result = read_json(out / "ablation.json")
    assert result["settings"]["randomised_share"] == 0.05
    assert result["settings"]["set"] == "report"
    mean = {row["method"]: row["mean"] for row in result["results"]}
    assert mean["1-direct-proxy"]["upload_auc"] == pytest.approx(1, abs=0.02)
    text = (out / "ablation.md").read_text()
    table = [line for line in text.splitlines() if line.startswith("| ")]
    assert [line.split(" | ")[0].removeprefix("| ") for line in table[1:]] == [*TITLES.values(), "oracle"]
    assert "`alm-mta benchmark ablation --set report --worlds logit --users 200" in text
    assert figure(result) == (out / "ablation.svg").read_text()


def result_by_hand(correlation: list[float], auc: list[float]) -> dict[str, Any]:
    """Six steps of one world, and an oracle."""
    rows = [
        {"correlation": c, "upload_auc": a, "auuc_bucket_1": 0.5} for c, a in zip(correlation, auc, strict=True)
    ]  # fmt: skip
    named = zip([*TITLES, "oracle"], [*rows, {"correlation": 1.0}], strict=True)
    return {
        "command": "a test", "machine": {"cores": 1, "architecture": "none"}, "versions": {},
        "settings": {"users": 10, "seeds": [1], "set": "report", "randomised_share": 0.05}, "worlds": {"logit": {}},
        "results": [
            {"world": "logit", "method": name, "mean": mean, "sd": dict.fromkeys(mean, 0.0), "failed": {}}
            for name, mean in named
        ],
    }  # fmt: skip


def test_the_report_says_where_auc_misleads() -> None:
    text = to_markdown(result_by_hand([0.2, 0.3, 0.4, 0.5, 0.8, 0.7], [1.0, 0.7, 0.7, 0.8, 0.8, 0.8]))
    assert "'direct proxy (leaks)' predicts uploads best: AUC 1.000, correlation 0.20" in text
    assert "'within-journey contrast' credits causes best: AUC 0.800, correlation 0.80" in text
    assert "Discriminative power is not causal validity." in text


def test_the_report_does_not_say_so_where_it_does_not() -> None:
    text = to_markdown(result_by_hand([0.2, 0.3, 0.4, 0.5, 0.6, 0.9], [0.6, 0.7, 0.7, 0.8, 0.8, 0.9]))
    assert "Discriminative power" not in text


def test_the_papers_variant_is_a_method(prepared: Prepared) -> None:
    table = load_journeys(prepared.journeys, prepared.data)
    tiny = PaperConfig(
        hidden=8, bank=64, top_k=16, train=TrainConfig(max_epochs=2, min_steps=20, batch_size=128, accelerator="cpu")
    )
    row_J = table.split("judge")[:30]
    scores = run_paper(table, row_J, table, 1, config=tiny)
    assert scores.credit_N.shape == (int(table.length_J[row_J].sum()),)
    assert scores.p_J is not None
    assert scores.p_randomised_J is not None
    assert (scores.p_J.shape, scores.p_randomised_J.shape) == ((30,), (len(table.keys),))
    assert scores.credit_N.dtype == scores.p_J.dtype == np.float64
    assert torch.equal(torch.tensor(scores.p_J).isfinite(), torch.ones(30, dtype=torch.bool))
