"""Batch attribution: a bundle and the journeys -> credits of every touchpoint, and what the judge wants beside them.

Without responses there is no mediator evidence: credits are then the naive leave-one-out, associational, and
summary.json says so. Reference: ALM-MTA (ICLR 2026), arXiv 2605.08881.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file
from torch import Tensor

from features.errors import BundleError
from features.files import atomic_dir, write_json
from features.journey_files import read_parts
from model.baselines.last_touch import last_touch
from model.baselines.naive import NaiveModel, leave_one_out
from model.batch import JourneyBatch
from model.bundle import FORMAT, Bundle, load_bundle, verify_bundle
from model.data import JourneyTable, load_journeys
from model.evidence import with_evidence
from model.front_door import Bank, FrontDoorModel, marginal_game, removal_effects
from model.interactions import StrongestPairs, strongest_pairs
from model.shapley import shapley
from model.snapshot import take_snapshot
from model.uncertainty import credit_errors

logger = logging.getLogger(__name__)

JOURNEYS_A_BATCH = 1024
BATCHES_A_CHUNK = 16
PAIRS_A_JOURNEY = 3
"""Interactions written of every judged journey."""


@dataclass(frozen=True, kw_only=True)
class Credits:
    """Credits of B journeys; per touch 0 on padding."""

    delta_BL: Tensor
    shapley_BL: Tensor
    stderr_BL: Tensor
    p_do_B: Tensor
    p_do_none_B: Tensor
    overlap_ess_B: Tensor
    abstained_B: Tensor


Scorer = Callable[[JourneyBatch], Credits]
RowsOf = Callable[[Tensor, JourneyBatch], dict[str, Any]]
"""Row numbers and batch of B journeys -> columns with one value a touch, journey after journey."""


@torch.no_grad()
def attribute(
    *, model_dir: Path, journeys_dir: Path, data_dir: Path, out: Path,
    champion_dir: Path | None = None, baselines_dir: Path | None = None,
) -> None:  # fmt: skip
    """Write credits of all journeys, the champion's and the baselines' of the judge split, and diagnostics.

    Raises BundleError where a bundle is altered, or where there are neither responses nor a naive baseline.
    """
    bundle = load_bundle(model_dir)
    table = load_journeys(journeys_dir, data_dir, bundle.schema)
    touches = read_parts(journeys_dir, "touches", ["item_id", "author_id", "cluster_id", "ts"])
    touches = touches.combine_chunks()  # taking rows of many chunks costs in all of them, every time
    naive = _load_naive(baselines_dir, bundle, table)
    identified = bool(bundle.schema["responses"])
    with atomic_dir(out) as folder:
        scorer = front_door_scorer(bundle.model, bundle.bank) if identified else _associational_scorer(naive)
        everyone_J = torch.arange(len(table.keys))
        _write_credits(folder / "attributions", table, touches, everyone_J, scorer, "credits")
        if identified:
            _write_interactions(folder / "interactions", table, touches, bundle)
        champion, obstacle = _champion(champion_dir, table)
        snapshots: dict[str, Any] = {}
        if champion is not None:
            champion_table = load_journeys(journeys_dir, data_dir, champion.schema)
            snapshots = _snapshots(champion, champion_table)
            scorer = front_door_scorer(champion.model, champion.bank)
            _write_credits(folder / "champion", champion_table, touches, table.split("judge"), scorer, "champion")
        _write_baseline(folder / "baselines" / "last_touch", table, touches, lambda b: last_touch(b.treatment.mask_BL))
        if naive is not None:
            _write_baseline(folder / "baselines" / "naive", table, touches, lambda b: leave_one_out(naive, b)[0])
        _write_diagnostics(folder / "diagnostics", table, bundle.model)
        summary = {
            "identified": identified,
            "sha256": bundle.sha256,
            "champion_incomparable": obstacle,
            "calibration": bundle.calibration,
            "leaky_responses": list(bundle.model.sizes.ignored),
            "snapshots": snapshots,
        }
        write_json(folder / "summary.json", summary)


def _champion(folder: Path | None, table: JourneyTable) -> tuple[Bundle | None, str]:
    """The champion if it can score these journeys, and what it is that keeps it from that, else empty.

    Logs that gained or lost columns, and bundles of another format, start a new line of champions.
    """
    if folder is None:
        return None, ""
    champion = load_bundle(folder) if verify_bundle(folder).get("format") == FORMAT else None
    if champion is None:
        obstacle = "was trained by another version of this pipeline"
    elif champion.schema["feature_schema_hash"] != table.schema["feature_schema_hash"]:
        obstacle = "was fitted on other features"
    else:
        return champion, ""
    logger.warning("the champion %s and cannot score these journeys; it stands aside", obstacle)
    return None, obstacle


def _snapshots(champion: Bundle, table: JourneyTable) -> dict[str, Any]:
    """The inputs at the champion's training and these logs', in the same bins; nothing of a bundle without them."""
    then = champion.snapshot
    return {"champion": then, "logs": take_snapshot(table, then["edges"])} if then else {}


def front_door_scorer(model: FrontDoorModel, bank: Bank, *, with_shapley: bool = True) -> Scorer:
    """Credits by front-door marginalisation; abstains where the bank's effective size is below the floor."""

    def score(batch: JourneyBatch) -> Credits:
        t = batch.treatment
        game = marginal_game(model, bank, batch.profile_BP)
        e_EBL = model.member_effects(t, batch.profile_BP)
        e_BL = e_EBL.mean(0)
        effects = removal_effects(game, e_BL, t.mask_BL)
        return Credits(
            delta_BL=effects.delta_BL,
            shapley_BL=shapley(game, e_BL, t.mask_BL) if with_shapley else torch.zeros_like(e_BL),
            stderr_BL=credit_errors(
                game, effects, e_EBL, model.level_doubt(t, batch.profile_BP), model.get_buffer("kappa_relative_error")
            ),
            p_do_B=effects.p_do_B,
            p_do_none_B=effects.p_do_none_B,
            overlap_ess_B=effects.overlap_ess_B,
            abstained_B=effects.overlap_ess_B < model.config.min_overlap_ess,
        )

    return score


def _associational_scorer(naive: NaiveModel | None) -> Scorer:
    """Naive leave-one-out, every credit abstaining: nothing here is identified."""
    if naive is None:
        raise BundleError("the logs have no responses, so credits need the naive baseline: set train.naive_baseline")

    def score(batch: JourneyBatch) -> Credits:
        delta_BL, p_B, p_none_B = leave_one_out(naive, batch)
        nothing_B = torch.zeros_like(p_B)
        return Credits(
            delta_BL=delta_BL,
            shapley_BL=delta_BL,
            stderr_BL=torch.zeros_like(delta_BL),
            p_do_B=p_B,
            p_do_none_B=p_none_B,
            overlap_ess_B=nothing_B,
            abstained_B=torch.ones_like(nothing_B, dtype=torch.bool),
        )

    return score


def _write_credits(
    folder: Path, table: JourneyTable, touches: pa.Table, row_J: Tensor, scorer: Scorer, what: str
) -> None:
    def rows(row_B: Tensor, batch: JourneyBatch) -> dict[str, Any]:
        return _attribution_rows(table, touches, row_B, batch.treatment.mask_BL.bool(), scorer(batch))

    _write_by_touch(folder / "part-0.parquet", table, row_J, rows, what)


def _write_by_touch(path: Path, table: JourneyTable, row_J: Tensor, rows: RowsOf, what: str = "") -> None:
    """Write one row a touch, in the order of `row_J`, from batches of journeys of like length."""
    with _parquet(path) as write:
        for done, chunk_J in enumerate(torch.split(row_J, JOURNEYS_A_BATCH * BATCHES_A_CHUNK)):
            alike_J = chunk_J[table.length_J[chunk_J].argsort(stable=True)]
            parts = [pa.table(rows(row_B, table.batch(row_B))) for row_B in torch.split(alike_J, JOURNEYS_A_BATCH)]
            owner_N = np.repeat(alike_J.numpy(), table.length_J[alike_J].numpy())
            write(pa.concat_tables(parts).take(pa.array(owner_N.argsort(kind="stable"))))
            if what:
                seen = min((done + 1) * JOURNEYS_A_BATCH * BATCHES_A_CHUNK, len(row_J))
                logger.info("%s: %d of %d journeys", what, seen, len(row_J))


def _attribution_rows(
    table: JourneyTable, touches: pa.Table, row_B: Tensor, mask_BL: Tensor, credits: Credits
) -> dict[str, Any]:
    gain_BL = credits.delta_BL.clamp(min=0)
    share_BL = gain_BL / gain_BL.sum(1, keepdim=True).clamp_min(1e-12)

    def per_touch(value_B: Tensor) -> NDArray[Any]:
        return value_B[:, None].expand(mask_BL.shape)[mask_BL].numpy()

    return _touch_keys(table, touches, row_B, mask_BL, ("item_id", "author_id", "cluster_id", "ts")) | {
        "delta": credits.delta_BL[mask_BL].numpy(),
        "shapley": credits.shapley_BL[mask_BL].numpy(),
        "share": share_BL[mask_BL].numpy(),
        "uplift_total": per_touch(credits.p_do_B - credits.p_do_none_B),
        "stderr": credits.stderr_BL[mask_BL].numpy(),
        "overlap_ess": per_touch(credits.overlap_ess_B),
        "abstained": per_touch(credits.abstained_B),
        "label": per_touch(table.label_J[row_B] > 0),
    }


def _write_interactions(folder: Path, table: JourneyTable, touches: pa.Table, bundle: Bundle) -> None:
    """The strongest pairs of touches of every judged journey; one row a pair, the older touch first."""
    with _parquet(folder / "part-0.parquet") as write:
        for row_B in torch.split(table.split("judge"), JOURNEYS_A_BATCH):
            batch = table.batch(row_B)
            t, game = batch.treatment, marginal_game(bundle.model, bundle.bank, batch.profile_BP)
            e_BL = bundle.model.effects(t, batch.profile_BP)
            write(_pair_rows(table, touches, row_B, strongest_pairs(game, e_BL, t.mask_BL, PAIRS_A_JOURNEY)))


def _pair_rows(table: JourneyTable, touches: pa.Table, row_B: Tensor, pairs: StrongestPairs) -> pa.Table:
    position_BL, _ = table.positions(row_B)
    place_B1, kept_BP = torch.arange(len(row_B))[:, None], pairs.mask_BP
    older, newer = (
        touches.select(["item_id", "ts"]).take(pa.array(position_BL[place_B1, which_BP][kept_BP].numpy()))
        for which_BP in (pairs.first_BP, pairs.second_BP)
    )
    journey_N = row_B[place_B1.expand(kept_BP.shape)[kept_BP]]
    return pa.table(
        {
            "user_id": table.keys["user_id"].to_numpy()[journey_N.numpy()],
            "t_obs": pa.array(table.t_obs_J[journey_N].numpy()).cast(touches.schema.field("ts").type),
            "item_id": older["item_id"],
            "ts": older["ts"],
            "other_item_id": newer["item_id"],
            "other_ts": newer["ts"],
            "interaction": pairs.interaction_BP[kept_BP].numpy(),
            "joint_delta": pairs.joint_BP[kept_BP].numpy(),
        }
    )


def _write_baseline(
    folder: Path, table: JourneyTable, touches: pa.Table, credit: Callable[[JourneyBatch], Tensor]
) -> None:
    def rows(row_B: Tensor, batch: JourneyBatch) -> dict[str, Any]:
        mask_BL = batch.treatment.mask_BL.bool()
        keys = _touch_keys(table, touches, row_B, mask_BL, ("item_id", "ts"))
        return keys | {"delta": credit(batch)[mask_BL].numpy()}

    _write_by_touch(folder / "part-0.parquet", table, table.split("judge"), rows)


def _write_diagnostics(folder: Path, table: JourneyTable, model: FrontDoorModel) -> None:
    """u − r, m − ref(x) and e of every judged touch; residual R and P(Y | T, S, x, n) of every judged journey.

    u and m are summed over mediator dimensions.
    """
    table, journeys = with_evidence(model, table), []

    def rows(row_B: Tensor, batch: JourneyBatch) -> dict[str, Any]:
        t, mask_BL = batch.treatment, batch.treatment.mask_BL.bool()
        seen, e_BL = batch.evidence, model.effects(t, batch.profile_BP)
        assert seen is not None
        m_BL = seen.mediator_BLK.sum(-1)
        journey_id_B = table.keys["journey_id"].to_numpy()[row_B.numpy()]
        journeys.append(
            pa.table(
                {
                    "journey_id": journey_id_B,
                    "split": np.full(len(row_B), "judge"),
                    "residual": model.residual(batch).numpy(),
                    "p_obs": torch.sigmoid(model.outcome_logit(batch)).numpy(),
                }
            )
        )
        return {
            "journey_id": np.repeat(journey_id_B, table.length_J[row_B].numpy()),
            "position": torch.arange(mask_BL.shape[1]).expand(mask_BL.shape)[mask_BL].to(torch.int32).numpy(),
            "u": (m_BL + seen.residual_BLK.sum(-1))[mask_BL].numpy(),
            "m": m_BL[mask_BL].numpy(),
            "e": e_BL[mask_BL].numpy(),
        }

    _write_by_touch(folder / "touches.parquet", table, table.split("judge"), rows)
    with _parquet(folder / "journeys.parquet") as write:
        write(pa.concat_tables(journeys).sort_by("journey_id"))


def _touch_keys(
    table: JourneyTable, touches: pa.Table, row_B: Tensor, mask_BL: Tensor, columns: tuple[str, ...]
) -> dict[str, Any]:
    """user_id and t_obs of the journey, then the touch's own columns; one row a touch, in order."""
    position_BL, _ = table.positions(row_B)
    picked = touches.select(list(columns)).take(pa.array(position_BL[mask_BL].numpy()))
    keys = table.keys.iloc[row_B.numpy()]
    length_B = table.length_J[row_B].numpy()
    t_obs = pa.array(np.repeat(table.t_obs_J[row_B].numpy(), length_B)).cast(touches.schema.field("ts").type)
    return {"user_id": np.repeat(keys["user_id"].to_numpy(), length_B), "t_obs": t_obs} | {
        name: picked[name].combine_chunks() for name in columns
    }


def _load_naive(baselines_dir: Path | None, bundle: Bundle, table: JourneyTable) -> NaiveModel | None:
    if baselines_dir is None or not (baselines_dir / "naive.safetensors").is_file():
        return None
    naive = NaiveModel(bundle.model.config, table.sizes)
    naive.load_state_dict(load_file(baselines_dir / "naive.safetensors"))
    return naive.eval()


@contextmanager
def _parquet(path: Path) -> Iterator[Callable[[pa.Table], None]]:
    """A Parquet file that grows by one table a call."""
    path.parent.mkdir(parents=True, exist_ok=True)
    writer: pq.ParquetWriter | None = None

    def write(rows: pa.Table) -> None:
        nonlocal writer
        writer = writer or pq.ParquetWriter(path, rows.schema, compression="zstd")
        writer.write_table(rows)

    try:
        yield write
    finally:
        if writer is not None:
            writer.close()
