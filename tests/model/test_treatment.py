from __future__ import annotations

from dataclasses import fields

import pytest
import torch
from made_table import CLUSTERS, CONTENT, made_model, made_table
from torch.nn.functional import pad
from torch.testing import assert_close

from model.batch import Treatment
from model.module import FrontDoorModule, plan_schedule
from model.settings import TrainConfig
from model.treatment import TreatmentPool


def treatment(B: int = 3, L: int = 4) -> Treatment:
    g = torch.Generator().manual_seed(0)
    return Treatment(
        cluster_BL=torch.randint(0, CLUSTERS, (B, L), generator=g), content_BLD=torch.randn(B, L, CONTENT, generator=g),
        gap_hours_BL=torch.rand(B, L, generator=g) * 48, mask_BL=torch.ones(B, L),
    )  # fmt: skip


def pool(heads: int) -> TreatmentPool:
    torch.manual_seed(1)
    return TreatmentPool(clusters=CLUSTERS, content_dim=CONTENT, hidden=8, attention_heads=heads)


@pytest.mark.parametrize("heads", [0, 2])
@pytest.mark.parametrize("training", [True, False])
@torch.no_grad()
def test_padding_does_not_matter(heads: int, training: bool) -> None:
    """Three padded touches, once zeros and once rubbish."""
    t, network = treatment(), pool(heads).train(training)
    zeros = Treatment(
        **{f.name: pad(getattr(t, f.name), (0, 0, 0, 3) if f.name == "content_BLD" else (0, 3)) for f in fields(t)}
    )
    rubbish = Treatment(
        cluster_BL=torch.where(zeros.mask_BL == 0, 1, zeros.cluster_BL),
        content_BLD=torch.where(zeros.mask_BL[..., None] == 0, 7.0, zeros.content_BLD),
        gap_hours_BL=torch.where(zeros.mask_BL == 0, 30.0, zeros.gap_hours_BL),
        mask_BL=zeros.mask_BL,
    )
    for padded in (zeros, rubbish):
        assert_close(network(padded), network(t), atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_attention_lets_touches_meet() -> None:
    """Without attention a journey's tokens are a sum of their own; with it a neighbour changes them."""
    t = treatment(B=1)
    other = Treatment(
        **vars(t) | {"cluster_BL": torch.cat([t.cluster_BL[:, :3], (t.cluster_BL[:, 3:] + 1) % CLUSTERS], 1)}
    )
    for heads, meets in ((0, False), (2, True)):
        network = pool(heads)
        first = [network.tokens(each)[0, 0] for each in (t, other)]
        assert torch.equal(*first) is not meets


def test_attention_is_trained() -> None:
    table = made_table()
    config = TrainConfig()
    module = FrontDoorModule(made_model(table, attention_heads=2), config, plan_schedule(config, 10))
    attention = module.model.confounder.pool.attention
    assert attention is not None
    optimizer = module.configure_optimizers()["optimizer"]
    before = attention.self_attn.in_proj_weight.clone()
    module.train().losses(table.batch(torch.arange(20)))[0]["loss"].backward()
    assert isinstance(optimizer, torch.optim.Optimizer)
    optimizer.step()
    assert not torch.equal(attention.self_attn.in_proj_weight, before)
    assert attention.self_attn.in_proj_weight.isfinite().all()
