"""What the allocator runs: journeys -> removal effects, as one ONNX graph with its bank inside.

The allocator asks what an exposure would add by appending it as a journey's last touch and reading that touch's Δ.
"""

from __future__ import annotations

import logging
import warnings
from pathlib import Path

import onnx
import onnxscript.optimizer
import torch
from torch import Tensor, nn

from model.batch import Treatment
from model.front_door import Bank, FrontDoorModel, marginal_game, removal_effects

INPUTS = ("cluster_BL", "content_BLD", "gap_hours_BL", "mask_BL", "profile_BP")
OUTPUTS = ("delta_BL", "p_do_B", "p_do_none_B")
GOLDEN_JOURNEYS, GOLDEN_TOUCHES = 8, 12


class ScoreGraph(nn.Module):
    """(cluster, content, gap, mask, profile) -> (Δ, P(do T), P(do ∅))."""

    def __init__(self, model: FrontDoorModel, bank: Bank) -> None:
        super().__init__()
        self.model, self.bank = model, bank

    def forward(
        self, cluster_BL: Tensor, content_BLD: Tensor, gap_hours_BL: Tensor, mask_BL: Tensor, profile_BP: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        t = Treatment(cluster_BL=cluster_BL, content_BLD=content_BLD, gap_hours_BL=gap_hours_BL, mask_BL=mask_BL)
        game = marginal_game(self.model, self.bank, profile_BP)
        effects = removal_effects(game, self.model.effects(t, profile_BP), mask_BL)
        return effects.delta_BL, effects.p_do_B, effects.p_do_none_B


def export_score_graph(model: FrontDoorModel, bank: Bank, path: Path) -> None:
    """Write the graph with dynamic journeys and touches, free of names that differ from run to run."""
    for noisy in ("onnxscript", "onnx_ir", "torch.onnx._internal.exporter._registration"):
        logging.getLogger(noisy).setLevel(logging.ERROR)
    dynamic = torch.export.Dim.DYNAMIC
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # torch's exporter uses what torch itself deprecated
        program = torch.onnx.export(
            ScoreGraph(model, bank).eval(),
            tuple(_example_inputs(model, journeys=3, touches=5).values()),
            input_names=list(INPUTS),
            output_names=list(OUTPUTS),
            dynamic_shapes=(*([{0: dynamic, 1: dynamic}] * 4), {0: dynamic}),
            dynamo=True,
            optimize=False,
            verbose=False,
        )
    assert program is not None
    # Folded matrix products round differently from run to run, so only what is a number or a shape is folded.
    onnxscript.optimizer.optimize(program.model, input_size_limit=64, output_size_limit=64)
    graph = program.model_proto
    graph.graph.ClearField("metadata_props")
    for named in (*graph.graph.node, *graph.graph.value_info, *graph.graph.input, *graph.graph.output):
        named.ClearField("doc_string")
        named.ClearField("metadata_props")
    onnx.checker.check_model(graph)
    path.write_bytes(graph.SerializeToString(deterministic=True))


@torch.no_grad()
def golden_rows(model: FrontDoorModel, bank: Bank) -> dict[str, Tensor]:
    """Inputs and the outputs a correct scorer must give for them."""
    inputs = _example_inputs(model, journeys=GOLDEN_JOURNEYS, touches=GOLDEN_TOUCHES)
    outputs = ScoreGraph(model, bank).eval()(*inputs.values())
    return inputs | {name: value.contiguous() for name, value in zip(OUTPUTS, outputs, strict=True)}


def _example_inputs(model: FrontDoorModel, *, journeys: int, touches: int) -> dict[str, Tensor]:
    sizes, generator = model.sizes, torch.Generator().manual_seed(0)
    length_B = torch.randint(1, touches + 1, (journeys, 1), generator=generator)
    mask_BL = (torch.arange(touches) < length_B).float()
    return {
        "cluster_BL": torch.randint(0, sizes.clusters, (journeys, touches), generator=generator) * mask_BL.long(),
        "content_BLD": torch.randn(journeys, touches, sizes.content_dim, generator=generator) * mask_BL[..., None],
        "gap_hours_BL": torch.rand(journeys, touches, generator=generator) * 48 * mask_BL,
        "mask_BL": mask_BL,
        "profile_BP": torch.randn(journeys, sizes.profile_dim, generator=generator),
    }
