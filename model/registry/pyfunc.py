"""The registered model as code: MLflow runs this file and loads the bundle beside it; nothing is unpickled."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pandas as pd
import torch
from mlflow.pyfunc.model import PythonModel, PythonModelContext

from features.encoding import encode_profiles
from model.batch import Treatment
from model.bundle import load_bundle, load_catalogue
from model.feed_columns import index_of
from model.score_graph import ScoreGraph


class FrontDoorPyfunc(PythonModel):
    """Journeys (model/registry/signature.py) -> Δ of every touch, P(do T), P(do ∅)."""

    def load_context(self, context: PythonModelContext) -> None:
        folder = Path(context.artifacts["bundle"])
        self.bundle, self.catalogue = load_bundle(folder), load_catalogue(folder)
        self.graph = ScoreGraph(self.bundle.model, self.bundle.bank).eval()

    @torch.no_grad()
    def predict(
        self,
        context: PythonModelContext,  # noqa: ARG002
        model_input: pd.DataFrame,
        params: dict[str, Any] | None = None,  # noqa: ARG002
    ) -> pd.DataFrame:
        t, profile_BP = self._treatment(model_input), self._profile(model_input)
        delta_BL, p_do_B, p_do_none_B = self.graph(t.cluster_BL, t.content_BLD, t.gap_hours_BL, t.mask_BL, profile_BP)
        kept = t.mask_BL.bool()
        delta = [row[mask].tolist() for row, mask in zip(delta_BL.double(), kept, strict=True)]
        return pd.DataFrame(
            {"delta": delta, "p_do": p_do_B.double().numpy(), "p_do_none": p_do_none_B.double().numpy()}
        )

    def _treatment(self, journeys: pd.DataFrame) -> Treatment:
        length_B = journeys["item_id"].map(len).to_numpy()
        mask_BL = np.arange(max(length_B.max(initial=1), 1)) < length_B[:, None]

        def padded(column: str, dtype: type) -> np.ndarray[Any, Any]:
            values_BL: np.ndarray[Any, Any] = np.zeros(mask_BL.shape, dtype)
            values_BL[mask_BL] = np.concatenate(
                [np.asarray(v, dtype) for v in journeys[column]] or [np.zeros(0, dtype)]
            )
            return values_BL

        clusters = pd.Index(self.bundle.schema["clusters"], dtype=np.int64)
        content_ID = np.vstack([self.catalogue.content_ID, np.zeros_like(self.catalogue.content_ID[:1])])
        content_BLD = content_ID[self.catalogue.position(padded("item_id", np.int64))] * mask_BL[..., None]
        return Treatment(
            cluster_BL=torch.from_numpy(index_of(clusters, padded("cluster_id", np.int64)) * mask_BL),
            content_BLD=torch.from_numpy(content_BLD.astype(np.float32)),
            gap_hours_BL=torch.from_numpy(padded("gap_hours", np.float32)),
            mask_BL=torch.from_numpy(mask_BL.astype(np.float32)),
        )

    def _profile(self, journeys: pd.DataFrame) -> torch.Tensor:
        spec = self.bundle.schema["profile"]
        if not spec:
            return torch.zeros(len(journeys), 1)
        columns = journeys.reindex(columns=[column["column"] for column in spec])
        return torch.from_numpy(encode_profiles(columns, spec))


mlflow.models.set_model(FrontDoorPyfunc())
