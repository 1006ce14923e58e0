"""The published model, fitted on the small world: what leaks, what runs, what is the same twice."""

from __future__ import annotations

import math
from dataclasses import replace

import lightning
import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from small_world import Prepared
from torch.nn.functional import binary_cross_entropy_with_logits
from torchmetrics.functional.classification import binary_auroc

from features.errors import TrainingFailed
from model.data import JourneyTable, load_journeys
from model.module import Schedule
from model.paper.credits import PaperCredits, PaperModel, credits
from model.paper.fit import fit_paper
from model.paper.module import PaperModule
from model.paper.network import PaperNetwork
from model.paper.settings import PaperConfig
from model.sampling import Prior
from model.settings import TrainConfig

TINY = PaperConfig(
    hidden=8, match_dim=4, bank=64, top_k=16, queue=32,
    train=TrainConfig(max_epochs=3, min_steps=60, batch_size=128, accelerator="cpu"),
)  # fmt: skip
DIRECT = replace(TINY, direct_proxy=True, adversary=False, contrastive=False, top_k=0)


@pytest.fixture(scope="module")
def table(prepared: Prepared) -> JourneyTable:
    return load_journeys(prepared.journeys, prepared.data)


@pytest.fixture(scope="module")
def full(table: JourneyTable) -> PaperModel:
    return fit_paper(table, TINY, seed=1)


def truth_of(prepared: Prepared, table: JourneyTable, row_J: torch.Tensor) -> np.ndarray:
    """True Δ of the rows' touches, in order."""
    position_BL, mask_BL = table.positions(row_J)
    key = ["user_id", "item_id", "ts"]
    touches = pq.read_table(prepared.journeys / "touches", columns=key).to_pandas()
    truth = pq.read_table(prepared.logs / "truth" / "touchpoints", columns=[*key, "delta"]).to_pandas()
    for frame in (touches, truth):
        frame["ts"] = frame["ts"].dt.tz_localize(None)
    return touches.iloc[position_BL[mask_BL].numpy()].merge(truth, on=key, how="left")["delta"].to_numpy()


def test_embedded_uploads_reach_the_batch(prepared: Prepared, table: JourneyTable) -> None:
    labelled = table.label_J.bool()
    batch = table.batch(torch.arange(len(table.label_J)))
    assert batch.upload_BD is not None
    assert torch.equal(batch.upload_BD.isfinite().all(1), labelled)
    uploads = pq.read_table(prepared.logs / "uploads", columns=["upload_id", "embedding"]).to_pandas()
    ids = pq.read_table(prepared.data / "training_table", columns=["upload_id"]).to_pandas()["upload_id"]
    expected = np.stack(uploads.set_index("upload_id").loc[ids.dropna().astype("int64"), "embedding"].to_list())
    np.testing.assert_array_equal(batch.upload_BD[labelled].numpy(), expected)


def test_everything_on_trains_and_credits(table: JourneyTable, full: PaperModel) -> None:
    row_J = table.split("judge")
    given = credits(full, table, row_J)
    assert len(given.delta_N) == int(table.length_J[row_J].sum())
    for value in (given.delta_N, given.p_J, given.p_do_J):
        assert bool(value.isfinite().all())
    assert float(given.delta_N.std()) > 0
    assert float(given.p_J.mean()) == pytest.approx(float(table.label_J.mean()), abs=0.04)
    assert int(full.network.queue.get_buffer("pushed")) > 32
    assert not any(p.requires_grad for p in full.network.parameters())


def test_the_offset_is_for_sampled_batches_only(table: JourneyTable, full: PaperModel) -> None:
    """π = .1 sampled to .4: in training the logit is moved by log (.4 / .6) − log (.1 / .9), weighted by propensity."""
    network, batch = full.network, table.batch(table.split("fit")[:64])
    schedule = Schedule(batch_size=64, epochs=1, steps=10)
    module = PaperModule(network, Prior(share=0.1, sampled=0.4), schedule)
    moved = module.eval().losses(batch)[1] + math.log(0.4 / 0.6) - math.log(0.1 / 0.9)
    weight_B = network.propensity.weight(batch.treatment, batch.profile_BP)
    expected = binary_cross_entropy_with_logits(moved, batch.label_B, weight=weight_B)
    plain = binary_cross_entropy_with_logits(module.losses(batch)[1], batch.label_B)
    torch.testing.assert_close(module.losses(batch)[0]["outcome"], plain)
    torch.testing.assert_close(module.train()._outcome(batch, module.losses(batch)[1]), expected)
    module.eval()


def test_the_key_encoder_moved_but_lags(table: JourneyTable, full: PaperModel) -> None:
    """It starts where the query encoder starts, and lies between that and where the query encoder ends."""
    lightning.seed_everything(1, verbose=False)
    start = PaperNetwork(TINY, table.sizes).key_encoder.project.weight
    query, key = full.network.match.project.weight, full.network.key_encoder.project.weight
    assert 0 < float((key - start).norm()) < float((query - start).norm())
    assert 0 < float((query - key).norm()) < float((query - start).norm())


def test_the_same_seed_gives_the_same_credits(table: JourneyTable, full: PaperModel) -> None:
    row_J = table.split("judge")[:50]
    again = credits(fit_paper(table, TINY, seed=1), table, row_J)
    torch.testing.assert_close(again.delta_N, credits(full, table, row_J).delta_N, rtol=0, atol=0)


def test_credits_do_not_see_the_label(table: JourneyTable, full: PaperModel) -> None:
    """Flip every label and drop every upload: nothing moves."""
    row_J = table.split("judge")[:50]
    blind = replace(
        table, label_J=1 - table.label_J, upload_J=torch.full_like(table.upload_J, len(table.upload_UD) - 1)
    )
    before, after = credits(full, table, row_J), credits(full, blind, row_J)
    for name in ("delta_N", "p_J", "p_do_J"):
        assert torch.equal(getattr(before, name), getattr(after, name)), name


def test_top_k_restricts_the_marginalisation(table: JourneyTable, full: PaperModel) -> None:
    """K = 1 sums over one bank journey, K = bank over all: p_do differs between, and all of them is K = 0."""
    row_J = table.split("judge")[:50]

    def p_do(k: int) -> torch.Tensor:
        full.network.config = replace(TINY, top_k=k)
        try:
            return credits(full, table, row_J).p_do_J
        finally:
            full.network.config = TINY

    torch.testing.assert_close(p_do(TINY.bank), p_do(0))
    assert float((p_do(1) - p_do(0)).abs().max()) > 1e-3


def test_the_direct_proxy_discriminates_perfectly_and_credits_poorly(prepared: Prepared, table: JourneyTable) -> None:
    row_J = torch.cat([table.split("fit"), table.split("judge")])
    given: PaperCredits = credits(fit_paper(table, DIRECT, seed=1), table, row_J)
    assert float(binary_auroc(given.p_J, table.label_J[row_J].long())) > 0.99
    assert float(binary_auroc(given.p_do_J, table.label_J[row_J].long())) < 0.85
    truth_N = truth_of(prepared, table, row_J)
    assert abs(np.corrcoef(given.delta_N.numpy(), truth_N)[0, 1]) < 0.4


@pytest.mark.parametrize(
    "config",
    [
        replace(TINY, ipw=False),
        replace(TINY, adversary=False),
        replace(TINY, contrastive=False, top_k=0),
        replace(TINY, negatives_per_positive=0),
    ],
)
def test_every_part_can_be_left_out(table: JourneyTable, config: PaperConfig) -> None:
    model = fit_paper(table, config, seed=1)
    assert bool(credits(model, table, table.split("judge")[:20]).delta_N.isfinite().all())
    assert bool(model.network.propensity.get_buffer("slope_PK").any()) == config.ipw
    assert bool(model.network.queue.get_buffer("pushed") > 0) == config.contrastive


def test_logs_without_uploaded_content_still_train(table: JourneyTable) -> None:
    bare = replace(table, upload_J=torch.zeros_like(table.upload_J), upload_UD=table.upload_UD[-1:])
    model = fit_paper(bare, TINY, seed=1)
    assert bool(credits(model, bare, bare.split("judge")[:20]).delta_N.isfinite().all())


def test_a_split_without_uploads_is_refused(table: JourneyTable) -> None:
    with pytest.raises(TrainingFailed, match="both outcomes are needed"):
        fit_paper(replace(table, label_J=torch.zeros_like(table.label_J)), TINY, seed=1)
