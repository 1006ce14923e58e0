"""A journey table drawn in memory: what a test needs to hold without logs, and free to alter."""

from __future__ import annotations

import numpy as np
import pandas as pd
import torch

from model.data import HOUR_US, Catalogue, JourneyTable
from model.front_door import FrontDoorModel
from model.settings import ModelConfig

CLUSTERS, CONTENT, ITEMS = 5, 3, 40


def made_table(
    *, users: int = 60, journeys: int = 2, touches: int = 4, overlap: int = 0, stray: int = 0,
    responses: tuple[str, ...] = ("watch_ratio", "liked"), seed: int = 0,
) -> JourneyTable:  # fmt: skip
    """Every user has `journeys` journeys; each sees `touches` new touches, an hour apart, after `stray` that no journey
    holds, and the `overlap` before them (the first journey has none before it). 70% of users are fit, 10% selection."""
    g, rng = torch.Generator().manual_seed(seed), np.random.default_rng(seed)
    J, each = users * journeys, touches + stray
    number_J = torch.arange(J) % journeys
    end_J = (torch.arange(J) + 1) * each
    length_J = touches + torch.where(number_J > 0, overlap, 0)
    user_J, N = torch.arange(J) // journeys, J * each
    ts_N = (torch.arange(N) % (journeys * each)) * HOUR_US
    split_J = np.select([user_J < 0.7 * users, user_J < 0.8 * users], ["fit", "selection"], "judge")
    label_J = (torch.rand(J, generator=g) < 0.3).float()
    item_id_I = np.arange(ITEMS, dtype=np.int64)
    catalogue = Catalogue(
        item_id_I=item_id_I,
        author_id_I=item_id_I % 7,
        cluster_index_I=item_id_I % CLUSTERS,
        content_ID=rng.normal(size=(ITEMS, CONTENT)).astype(np.float32),
    )
    item_N = torch.randint(0, ITEMS, (N,), generator=g)
    watch = [name == "watch_ratio" for name in responses]
    response_NR = torch.rand(N, len(responses), generator=g)
    keys = {"journey_id": range(J), "user_id": user_J, "t_obs": end_J, "split": split_J, "label": label_J}
    return JourneyTable(
        schema={
            "clusters": list(range(CLUSTERS)), "responses": list(responses), "profile": [], "feature_schema_hash": "0",
            "embedding_dim": CONTENT,
        },
        keys=pd.DataFrame(keys),
        offset_J=end_J - length_J,
        length_J=length_J,
        t_obs_J=ts_N[end_J - 1],
        profile_JP=torch.randn(users, 2, generator=g)[user_J],
        control_JC=torch.rand(J, 1, generator=g) * 3,
        label_J=label_J,
        catalogue=catalogue,
        content_ID=torch.cat([torch.tensor(catalogue.content_ID), torch.zeros(1, CONTENT)]),
        touch_ts_N=ts_N,
        touch_item_N=item_N,
        touch_cluster_N=item_N % CLUSTERS,
        response_NR=torch.where(torch.tensor(watch, dtype=torch.bool), response_NR, (response_NR > 0.7).float()),
        touch_randomised_N=torch.zeros(N, dtype=torch.bool),
        first_touch_J=user_J * journeys * each,
        upload_J=torch.zeros(J, dtype=torch.int64),
        upload_UD=torch.full((1, CONTENT), torch.nan),
    )  # fmt: skip


def made_model(table: JourneyTable, *, seed: int = 0, **settings: object) -> FrontDoorModel:
    """An untrained model for the table, whose reference catalogue is its first items."""
    torch.manual_seed(seed)
    model = FrontDoorModel(ModelConfig(**{"hidden": 8, "bank": 32} | settings), table.sizes)  # type: ignore[arg-type]
    catalogue = model.prior.get_buffer("catalogue_content_ID")
    item_I = torch.arange(len(catalogue)) % ITEMS
    catalogue.copy_(table.content_ID[item_I])
    model.prior.get_buffer("catalogue_cluster_I").copy_(item_I % CLUSTERS)
    return model.eval()
