from __future__ import annotations

from dataclasses import replace

import torch
from made_table import made_model, made_table

from model.module import ADVERSARY_RATE, FrontDoorModule, OutcomeModule, plan_schedule
from model.settings import TrainConfig

CONFIG = TrainConfig(learning_rate=0.01, prior_rate=3.0, link_rate=20.0, weight_decay=0.1)
SCHEDULE = plan_schedule(CONFIG, 100)


def rates(module: FrontDoorModule | OutcomeModule) -> dict[str, tuple[float, float]]:
    """Peak learning rate over the networks' and weight decay, by the parameter's name."""
    optimizer = module.configure_optimizers()["optimizer"]
    assert isinstance(optimizer, torch.optim.AdamW)
    place = {
        id(p): (round(group["max_lr"] / 0.01, 6), group["weight_decay"])
        for group in optimizer.param_groups
        for p in group["params"]
    }
    return {name: place[id(p)] for name, p in module.named_parameters() if id(p) in place}


def test_every_part_has_its_rate_and_the_shape_does_not_decay() -> None:
    found = rates(FrontDoorModule(made_model(made_table()), CONFIG, SCHEDULE))
    expected = {
        "model.link": (20.0, 0.0), "model.decay": (20.0, 0.0), "model.prior": (3.0, 0.1),
        "adversary": (ADVERSARY_RATE, 0.1), "model.index": (1.0, 0.1), "model.confounder": (1.0, 0.1),
    }  # fmt: skip
    for name, rate in found.items():
        assert rate == next(r for part, r in expected.items() if name.startswith(part)), name


def test_equal_rates_do_not_share_a_decay() -> None:
    config = replace(CONFIG, link_rate=1.0)
    found = rates(FrontDoorModule(made_model(made_table()), config, SCHEDULE))
    assert found["model.link.curvature"] == (1.0, 0.0)
    assert found["model.index.h_watch.slope_K"] == (1.0, 0.1)


def test_the_two_stages_fit_what_their_losses_reach() -> None:
    """Every parameter of the joint fit gets a gradient, which DDP insists on; index and prior rest in the second."""
    table = made_table()
    model = made_model(table)
    joint = FrontDoorModule(model, CONFIG, SCHEDULE).train()
    joint.losses(table.batch(torch.arange(20)))[0]["loss"].backward()
    assert {n for n, p in joint.named_parameters() if p.requires_grad} == {
        n for n, p in joint.named_parameters() if p.grad is not None
    }
    assert not {"model.log_scale", "model.confounder.level.weight"} & set(rates(joint))
    outcome = OutcomeModule(model, CONFIG, SCHEDULE).train()
    parts = {name.split(".")[1] for name in rates(outcome)}
    assert parts == {"confounder", "decay", "link", "log_scale"}
    assert "model.confounder.level.weight" in rates(outcome)


def test_the_running_level_and_variance_of_the_index_are_followed_in_training_alone() -> None:
    """r moves a twentieth of the way to mean(u − m) + mean ref(x) a step; nothing moves in validation."""
    table = made_table()
    model, batch = made_model(table), table.batch(torch.arange(40))
    module = FrontDoorModule(model, CONFIG, SCHEDULE)
    with torch.no_grad():
        u_BLK = model.index(batch.response_BLR)
        m_BLK = model.prior(batch.treatment.cluster_BL, batch.treatment.content_BLD, batch.profile_BP).mean(0)
        level_K = (u_BLK - m_BLK).mean((0, 1)) + model.prior.reference(batch.profile_BP).mean((0, 1))
    module.eval().losses(batch)
    assert float(model.get_buffer("reference_level_K")) == 0
    module.train().losses(batch)
    torch.testing.assert_close(model.get_buffer("reference_level_K"), 0.05 * level_K)
    variance = 0.95 + 0.05 * u_BLK.var(correction=0)
    torch.testing.assert_close(model.get_buffer("index_variance_K"), variance[None])
