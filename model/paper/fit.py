"""`fit_paper`: the published model on the fit split, at the epoch of the best outcome loss on the selection split."""

from __future__ import annotations

import tempfile
from pathlib import Path

import lightning
import torch
from lightning.pytorch.callbacks import EarlyStopping, ModelCheckpoint

from features.errors import TrainingFailed
from model.data import JourneyTable
from model.feed import JourneyData
from model.module import plan_schedule
from model.paper.credits import PaperModel, build_paper_bank
from model.paper.module import PaperModule
from model.paper.network import PaperNetwork
from model.paper.proxy import match_proxy
from model.paper.settings import PaperConfig
from model.paper.weights import fit_propensity
from model.sampling import journeys_an_epoch, plan_prior
from model.train import MONITOR, check_splits


def fit_paper(table: JourneyTable, config: PaperConfig, seed: int) -> PaperModel:
    """Fit on table.split("fit") with early stopping on "selection"; the same seed gives the same model.

    Raises TrainingFailed where a split lacks one of the outcomes, or the loss is never finite.
    """
    check_splits(table)
    lightning.seed_everything(seed, verbose=False)
    fit_J = table.split("fit")
    label_J = table.label_J[fit_J]
    network = PaperNetwork(config, table.sizes)
    _initialise(network, table, seed)
    schedule = plan_schedule(config.train, journeys_an_epoch(label_J, config.negatives_per_positive))
    module = PaperModule(network, plan_prior(label_J, config.negatives_per_positive), schedule)
    data = JourneyData(
        table, batch_size=schedule.batch_size, seed=seed, negatives_per_positive=config.negatives_per_positive
    )
    with tempfile.TemporaryDirectory(prefix="alm-mta-paper-") as folder:
        best = ModelCheckpoint(Path(folder), monitor=MONITOR, filename="best")
        trainer = lightning.Trainer(
            max_epochs=schedule.epochs,
            accelerator=config.train.accelerator,
            gradient_clip_val=1.0,
            callbacks=[EarlyStopping(MONITOR, patience=config.train.patience), best],
            num_sanity_val_steps=0,
            logger=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            use_distributed_sampler=False,
        )
        trainer.fit(module, datamodule=data)
        if best.best_model_score is None or not bool(torch.isfinite(best.best_model_score)):
            raise TrainingFailed("paper: the selection loss never became finite; lower paper.train.learning_rate")
        module.load_state_dict(torch.load(best.best_model_path, weights_only=True)["state_dict"])
    network = network.cpu().eval().requires_grad_(False)
    return PaperModel(network=network, bank=build_paper_bank(network, table, seed))


@torch.no_grad()
def _initialise(network: PaperNetwork, table: JourneyTable, seed: int) -> None:
    """What the fit split fixes: control scales, the mean proxy, first predictions at the prior, the propensity."""
    fit_J = table.split("fit")
    control_JC = torch.log1p(table.control_JC[fit_J].clamp_min(0))
    network.effect.get_buffer("control_mean_C").copy_(control_JC.mean(0))
    network.effect.get_buffer("control_sd_C").copy_(control_JC.std(0, correction=0).clamp_min(1e-3))
    positive = table.batch(fit_J[table.label_J[fit_J] > 0])
    proxy_BL, known_BL = match_proxy(positive)
    mean = (proxy_BL.sum() / known_BL.sum().clamp_min(1) * table.label_J[fit_J].mean()).clamp(1e-3, 0.5)
    network.get_buffer("proxy_mean").copy_(mean)
    network.mediator.head.bias.copy_(torch.logit(mean))
    touches = table.length_J[fit_J].float().mean()
    network.effect.head.bias.copy_(torch.logit(table.label_J[fit_J].mean()) - network.slope * touches)
    if network.config.ipw:
        with torch.enable_grad():
            fit_propensity(network.propensity, table, torch.Generator().manual_seed(seed))
