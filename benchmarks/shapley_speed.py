"""Closed-form Shapley credits beside captum's ShapleyValueSampling: error against seconds, one thread.

`python -m benchmarks.shapley_speed` writes shapley_speed.json and shapley_speed.md.

Both get the same game (the front door's P(do T) of the same journeys) and the same effects e_l, ready made, so that
captum's forward pass is the cheapest there can be: no network, one look at the marginalisation bank. The error is the
95th percentile over touches of |φ − exact| / the journey's largest |exact|; exact is the mean over all orders by
enumeration of the 2^L coalitions in double precision (L ≤ 16), beyond that a Monte Carlo mean over antithetic orders.
captum samples 4, 16, 64, ... orders until it has taken `PATIENCE` times our seconds; its error falls as 1/√orders,
which gives its seconds at our error and at 2%.

Shapes: B journeys, L touches, S coalitions, O orders.
"""

from __future__ import annotations

import argparse
import logging
import math
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmarks.output import RESULTS, write_result
from benchmarks.provenance import headline, provenance
from features.errors import AlmMtaError
from model.front_door import Game, marginal_game
from model.link import SaturatingLink, inverse_softplus
from model.shapley import shapley

logger = logging.getLogger(__name__)

JOURNEYS, BANK = 128, 128
LENGTHS, ENUMERATED = (8, 12, 16, 32), 16
PATIENCE = 200
TOLERANCE = 0.02
FITTED_USERS = 3_000

Draw = Callable[[np.random.Generator, tuple[int, int]], np.ndarray[Any, Any]]
REGIMES: dict[str, tuple[float, Draw]] = {
    "moderate": (0.1, lambda r, shape: r.gamma(1.0, 0.3, shape) - 0.05),
    "strong link": (1.0, lambda r, shape: r.gamma(1.0, 0.8, shape) - 0.1),
    "heavy tails": (0.1, lambda r, shape: 0.7 * r.standard_t(3, shape)),
}
"""Curvature 1/κ_s of the link, and the effects."""


@dataclass(frozen=True, kw_only=True)
class Case:
    """One batch of journeys to credit."""

    regime: str
    seed: int
    game: Game
    e_BL: Tensor


def drawn_case(regime: str, length: int, seed: int) -> Case:
    """A random game and effects of a regime."""
    curvature, draw = REGIMES[regime]
    rng, generator = np.random.default_rng(seed), torch.Generator().manual_seed(seed)
    link = SaturatingLink().requires_grad_(False)
    link.curvature.fill_(inverse_softplus(curvature))
    game = Game(
        c_BJ=torch.randn(JOURNEYS, BANK, generator=generator) - 2.5,
        residual_J=torch.randn(BANK, generator=generator),
        weight_BJ=torch.softmax(torch.randn(JOURNEYS, BANK, generator=generator), 1),
        link=link,
    )
    e_BL = torch.tensor(draw(rng, (JOURNEYS, length)), dtype=torch.float32)
    return Case(regime=regime, seed=seed, game=game, e_BL=e_BL)


@torch.no_grad()
def fitted_cases(work: Path, seed: int) -> list[Case]:
    """The product's own model, fitted on a small logit world: the last L touches of journeys that have as many."""
    from benchmarks.prepared import prepare_logs
    from model.bundle import load_bundle
    from model.data import load_journeys
    from model.settings import ModelConfig, TrainConfig
    from model.train import train
    from validation.worlds import WORLDS, simulate

    simulate(WORLDS["logit"], FITTED_USERS, seed, work / "logs")
    prepare_logs(work / "logs", work)
    with torch.enable_grad():
        train(
            journeys_dir=work / "journeys",
            data_dir=work / "data",
            model_config=ModelConfig(),
            config=TrainConfig(seed=seed, naive_baseline=False, accelerator="cpu"),
            checkpoints=work / "checkpoints",
            out=work / "bundle",
        )
    bundle, table = load_bundle(work / "bundle"), load_journeys(work / "journeys", work / "data")
    judge_J = table.split("judge")
    cases = []
    for length in LENGTHS:
        row_B = judge_J[table.length_J[judge_J] >= length][:JOURNEYS]
        if len(row_B) < JOURNEYS:
            break
        t, profile_BP = table.batch(row_B).treatment, table.profile_JP[row_B]
        e_BL = bundle.model.effects(t, profile_BP)
        last_BL = t.mask_BL.sum(1, keepdim=True).long() - length + torch.arange(length)
        game = marginal_game(bundle.model, bundle.bank, profile_BP)
        cases.append(Case(regime="fitted", seed=seed, game=game, e_BL=e_BL.gather(1, last_BL)))
    return cases


def enumerate_orders(game: Game, e_BL: Tensor) -> Tensor:
    """φ by definition, from the value of every coalition. [B, L] -> [B, L], double."""
    length = e_BL.shape[1]
    coalition_S = torch.arange(2**length)
    member_SL = coalition_S[:, None] >> torch.arange(length) & 1
    z_BS = e_BL.double() @ member_SL.T.double()
    value_BS = torch.cat([game.value(z_Bs) for z_Bs in torch.split(z_BS, 16, dim=1)], 1)
    orders = [math.factorial(s) * math.factorial(max(length - s - 1, 0)) for s in range(length + 1)]
    share_S = torch.tensor(orders, dtype=torch.float64)[member_SL.sum(1)] / math.factorial(length)
    phi_BL = torch.empty(e_BL.shape, dtype=torch.float64)
    for touch in range(length):
        without_S = coalition_S[member_SL[:, touch] == 0]
        gain_BS = value_BS[:, without_S | 1 << touch] - value_BS[:, without_S]
        phi_BL[:, touch] = (gain_BS * share_S[without_S]).sum(1)
    return phi_BL


def sample_orders(game: Game, e_BL: Tensor, pairs: int, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
    """φ as the mean gain over `pairs` orders and their reversals, and its standard error. [B, L] twice, double.

    The game is read off a fine table: with this many values its own bank would take hours.
    """
    sum_BL, square_BL = torch.zeros(e_BL.shape, dtype=torch.float64), torch.zeros(e_BL.shape, dtype=torch.float64)
    low_B1 = e_BL.double().clamp(max=0).sum(1, keepdim=True)
    width_B1 = e_BL.double().clamp(min=0).sum(1, keepdim=True) - low_B1
    unit_G = torch.linspace(0, 1, 4096, dtype=torch.float64)
    h_BG = torch.cat([game.value(low_B1 + width_B1 * unit_g) for unit_g in torch.split(unit_G, 16)], 1)

    def gains(order_OL: Tensor) -> Tensor:
        z_BOL = e_BL.double()[:, order_OL].cumsum(2)
        z_BOL = torch.cat([torch.zeros_like(z_BOL[..., :1]), z_BOL], 2)
        at_BX = ((z_BOL.flatten(1) - low_B1) / width_B1 * 4095).clamp(0, 4095)
        left_BX = at_BX.long().clamp(max=4094)
        h_BX = h_BG.gather(1, left_BX).lerp(h_BG.gather(1, left_BX + 1), at_BX - left_BX)
        gain_BOL = h_BX.reshape(z_BOL.shape).diff(dim=2)
        return torch.empty_like(gain_BOL).scatter_(2, order_OL.expand_as(gain_BOL), gain_BOL)

    done = 0
    while done < pairs:
        order_OL = torch.tensor(rng.permuted(np.tile(np.arange(e_BL.shape[1]), (256, 1)), axis=1))
        pair_BOL = (gains(order_OL) + gains(order_OL.flip(1))) / 2
        sum_BL += pair_BOL.sum(1)
        square_BL += (pair_BOL**2).sum(1)
        done += len(order_OL)
    mean_BL = sum_BL / done
    return mean_BL, ((square_BL / done - mean_BL**2).clamp_min(0) / done).sqrt()


def captum_shapley(game: Game, e_BL: Tensor, *, orders: int, at_once: int, seed: int) -> Tensor:
    """captum's estimate; its forward pass sums what each perturbed journey keeps and asks the game once."""
    from captum.attr import ShapleyValueSampling

    def value(kept_XL: Tensor) -> Tensor:
        z_BX = kept_XL.sum(1).reshape(-1, len(e_BL)).T  # captum stacks its perturbations batch after batch
        return game.value(z_BX).T.reshape(-1)

    torch.manual_seed(seed)
    credit_BL = ShapleyValueSampling(value).attribute(
        e_BL, baselines=0.0, n_samples=orders, perturbations_per_eval=at_once
    )
    return torch.as_tensor(credit_BL)


def error(phi_BL: Tensor, exact_BL: Tensor, at: float = 0.95) -> float:
    """Quantile over touches of |φ − exact| / the journey's largest |exact|."""
    share_BL = (phi_BL - exact_BL).abs() / exact_BL.abs().amax(1, keepdim=True)
    return float(share_BL.flatten().quantile(at))


def measure(case: Case) -> dict[str, Any]:
    """Error and seconds of both on one batch."""
    game, e_BL, mask_BL = case.game, case.e_BL, torch.ones_like(case.e_BL)
    exact_BL, reference_error = _reference(case)
    phi_BL, seconds = _timed(lambda: shapley(game, e_BL, mask_BL), repeats=9)
    whole_B = (game.value(e_BL.double().sum(1, keepdim=True)) - game.value(torch.zeros(len(e_BL), 1)))[:, 0]
    ours = error(phi_BL, exact_BL)
    curve = list(_captum_curve(case, exact_BL, budget_s=PATIENCE * seconds))
    last = curve[-1]
    measured = {
        "regime": case.regime,
        "touches": e_BL.shape[1],
        "seed": case.seed,
        "reference_error": reference_error,
        "error_p95": ours,
        "error_max": error(phi_BL, exact_BL, 1.0),
        "efficiency_gap": float(((phi_BL.sum(1) - whole_B).abs() / whole_B.abs()).max()),
        "seconds": seconds,
        "captum": curve,
        "captum_slope": _slope(curve),
        "times_faster_measured": last["seconds"] / seconds if last["error_p95"] > ours else None,
        "times_faster_at_equal_error": _seconds_at(ours, last) / seconds,
        "times_faster_at_tolerance": _seconds_at(TOLERANCE, last) / seconds,
    }
    logger.info(
        "%s, %d touches, seed %d: %.1e in %.1f ms; captum %.1e after %d orders in %.1f s",
        case.regime, e_BL.shape[1], case.seed, ours, 1e3 * seconds, last["error_p95"], last["orders"], last["seconds"],
    )  # fmt: skip
    return measured


def _reference(case: Case) -> tuple[Tensor, float]:
    """φ to compare with, and the 95th percentile of its own standard error in the units of `error`."""
    if case.e_BL.shape[1] <= ENUMERATED:
        return enumerate_orders(case.game, case.e_BL), 0.0
    phi_BL, stderr_BL = sample_orders(case.game, case.e_BL, 8_192, np.random.default_rng(case.seed))
    return phi_BL, error(phi_BL + stderr_BL, phi_BL)


def _captum_curve(case: Case, exact_BL: Tensor, budget_s: float) -> Iterator[dict[str, float]]:
    """captum at 4, 16, 64, ... orders until one run takes the budget, at the faster of its two ways to batch."""

    def run(orders: int, at_once: int) -> tuple[Tensor, float]:
        return _timed(lambda: captum_shapley(case.game, case.e_BL, orders=orders, at_once=at_once, seed=case.seed))

    at_once = min((1, case.e_BL.shape[1]), key=lambda at_once: run(4, at_once)[1])
    orders, seconds = 1, 0.0
    while seconds < budget_s:
        orders *= 4
        phi_BL, seconds = run(orders, at_once)
        yield {"orders": orders, "error_p95": error(phi_BL, exact_BL), "seconds": seconds}


def _timed(work: Callable[[], Tensor], repeats: int = 1) -> tuple[Tensor, float]:
    """Its result and the median of its elapsed seconds."""
    taken = []
    for _ in range(repeats):
        began = time.perf_counter()
        result = work()
        taken.append(time.perf_counter() - began)
    return result, float(np.median(taken))


def _seconds_at(wanted: float, point: dict[str, float]) -> float:
    """captum's seconds at an error, by 1/√orders from a measured point."""
    return point["seconds"] * (point["error_p95"] / wanted) ** 2


def _slope(curve: list[dict[str, float]]) -> float | None:
    """d log error / d log orders; −½ if captum behaves as a mean."""
    if len(curve) < 2:
        return None
    orders, errors = ([math.log(point[key]) for point in curve] for key in ("orders", "error_p95"))
    return float(np.polyfit(orders, errors, 1)[0])


def summarise(measured: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """One row a regime and length: median, least and largest over the seeds."""
    rows = []
    for key in dict.fromkeys((m["regime"], m["touches"]) for m in measured):
        group = [m for m in measured if (m["regime"], m["touches"]) == key]
        values = {
            "reference_error": [m["reference_error"] for m in group],
            "error_p95": [m["error_p95"] for m in group],
            "error_max": [m["error_max"] for m in group],
            "efficiency_gap": [m["efficiency_gap"] for m in group],
            "seconds": [m["seconds"] for m in group],
            "captum_error_p95": [m["captum"][-1]["error_p95"] for m in group],
            "captum_orders": [m["captum"][-1]["orders"] for m in group],
            "captum_seconds": [m["captum"][-1]["seconds"] for m in group],
            "times_faster_measured": [m["times_faster_measured"] or 0.0 for m in group],
            "times_faster_at_equal_error": [m["times_faster_at_equal_error"] for m in group],
            "times_faster_at_tolerance": [m["times_faster_at_tolerance"] for m in group],
        }
        spread = {
            name: {"median": float(np.median(v)), "min": float(min(v)), "max": float(max(v))}
            for name, v in values.items()
        }
        rows.append({"regime": key[0], "touches": key[1], "seeds": len(group)} | spread)
    return rows


def to_markdown(result: dict[str, Any]) -> str:
    """The summary as a table under the command that made it."""
    lines = [
        "# Shapley credits in closed form, beside captum's ShapleyValueSampling",
        "",
        headline(result),
        "",
        f"{JOURNEYS} journeys a batch, a bank of {BANK}, one thread, median over the seeds (least to largest). Both "
        "get the same game and the same effects, so that captum's forward pass is no network, only a look at the bank. "
        f"'fitted' is the product's model on {FITTED_USERS:,} users of the logit world; the others are drawn games.",
        "",
        "Error: 95th percentile over touches of |φ − exact| over the journey's largest |exact|; exact by enumeration "
        f"up to {ENUMERATED} touches, beyond them by 16,384 sampled orders, whose own standard error is given as ±: an "
        "error below it says no more than that. Measured: captum sampled orders until one run had taken more than "
        f"{PATIENCE} times our seconds, and this is how long that run took, its error being still above ours. Equal "
        "error: what captum would take to our error, as its error falls by 1/√orders (an extrapolation). At 2%: what "
        "it would take to the looser error that is asked of us.",
        "",
        "| regime | touches | our error | our largest | efficiency gap | our ms | captum's error, after orders | "
        "captum's time / ours: measured | equal error | at 2% |",
        "|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for row in result["summary"]:
        reference = row["reference_error"]["median"]
        lines.append(
            f"| {row['regime']} | {row['touches']} | {row['error_p95']['median']:.1e}"
            + (f" (±{reference:.0e})" if reference else "")
            + f" | {row['error_max']['max']:.1e} | {row['efficiency_gap']['max']:.0e} "
            f"| {1e3 * row['seconds']['median']:.1f} "
            f"| {row['captum_error_p95']['median']:.1e}, {row['captum_orders']['median']:,.0f} "
            f"| {_spread(row['times_faster_measured'])} "
            f"| {row['times_faster_at_equal_error']['median']:.0e} | {_spread(row['times_faster_at_tolerance'])} |"
        )
    return "\n".join([*lines, ""])


def _spread(value: dict[str, float]) -> str:
    return f"{value['median']:,.0f} ({value['min']:,.0f} to {value['max']:,.0f})"


@torch.no_grad()
def main(arguments: list[str] | None = None) -> int:
    """Measure every regime, length and seed and write the results; 0 done, 1 the fitted model failed."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.shapley_speed", description=(__doc__ or "").splitlines()[0]
    )
    parser.add_argument("--seeds", type=int, default=5, help="batches a regime and length (default: %(default)s)")
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder of the results (default: benchmarks/results)")
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    torch.set_num_threads(1)
    seeds = range(1, options.seeds + 1)
    cases = [drawn_case(regime, length, seed) for regime in REGIMES for length in LENGTHS for seed in seeds]
    try:
        for seed in seeds:
            with tempfile.TemporaryDirectory(prefix="alm-mta-bench-") as work:
                cases += fitted_cases(Path(work), seed)
    except AlmMtaError as failure:
        logger.error("%s", failure)
        return 1
    measured = [measure(case) for case in cases]
    made = provenance("benchmarks.shapley_speed", arguments, ("alm-mta", "captum", "numpy", "torch"))
    result = made | {"summary": summarise(measured), "batches": measured}
    logger.info("wrote %s", write_result(options.out, "shapley_speed", result, to_markdown(result)))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
