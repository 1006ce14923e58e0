"""What the logs at hand can identify, in plain sentences, and what forbids approval because it cannot be.

Front door T -> M -> Y needs evidence of the mediator (responses, or embeddings of what was uploaded); OBS needs a
negative-control outcome and exposure; the scale of effects needs randomised exposures; their level is never identified.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from validation.buckets import Buckets
from validation.gate import Blocking
from validation.judge_arrays import JudgeArrays
from validation.uplift import Uplift


@dataclass(frozen=True, kw_only=True)
class Statement:
    """One thing that is identified or not, why, and what follows."""

    what: str
    identified: bool
    why: str
    consequence: str
    blocks: Blocking | None = None


def identify(
    *, schema: dict[str, Any], calibration: Mapping[str, Any], data: JudgeArrays, buckets: Buckets, obs: Uplift,
    fd: Uplift | None,
) -> list[Statement]:  # fmt: skip
    """Statements in the report's order; `schema` is data/schema.json, `calibration` of credits/summary.json."""
    return [
        _mediator(schema, fd),
        _hidden_intent(obs),
        _profiles(data, buckets),
        _scale(calibration),
        Statement(
            what="level of effects",
            identified=False,
            why="Without a journey that saw nothing, only contrasts between contents are observed.",
            consequence="Rank content by credit; read uploads-per-touch totals as a model's extrapolation.",
        ),
    ]


def _mediator(schema: dict[str, Any], fd: Uplift | None) -> Statement:
    what = "mediator evidence"
    if fd is not None:
        return Statement(
            what=what,
            identified=True,
            why=f"Responses after each touch measure inspiration: {', '.join(schema['responses'])}.",
            consequence="The front door is open: credits and the FD judge rest on it.",
        )
    embeddings = " Embeddings of uploads alone are not used as evidence." if schema["has_upload_embeddings"] else ""
    return Statement(
        what=what,
        identified=False,
        why="The logs hold no responses to touches." + embeddings,
        consequence="Credits are associations that hidden intent may fake; nothing is promoted.",
        blocks=Blocking(reason="no mediator evidence: the logs hold no responses to touchpoints"),
    )


def _hidden_intent(obs: Uplift) -> Statement:
    what = "hidden intent (OBS judge)"
    if obs.usable:
        return Statement(
            what=what,
            identified=True,
            why="Uploads before the window and exposures after the horizon reveal it: neither can be an effect.",
            consequence="OBS is a key of the gate.",
        )
    return Statement(
        what=what,
        identified=False,
        why=f"{obs.note[:1].upper()}{obs.note[1:]}.",
        consequence="OBS is no key, and one key alone cannot approve.",
    )


def _profiles(data: JudgeArrays, buckets: Buckets) -> Statement:
    has_profiles = data.x_JP.shape[1] > 0
    why = (
        "Profiles adjust what users are shown and how much they create."
        if has_profiles
        else "There is no users/ table."
    )
    return Statement(
        what="observed confounders (profiles)",
        identified=has_profiles,
        why=f"{why} {buckets.why[:1].upper()}{buckets.why[1:]}{'.' if buckets.why else ''}".strip(),
        consequence=f"Rankings are judged in {buckets.count} bucket{'s' if buckets.count > 1 else ''} of propensity.",
    )


def _scale(calibration: Mapping[str, Any]) -> Statement:
    """From the credits' own account of their scale (model/calibration.py)."""
    what, source = "scale of effects", calibration.get("source", "none")
    if source == "none":
        return Statement(
            what=what,
            identified=False,
            why="No exposure was randomised, and responses of one kind do not tell how noisy they are.",
            consequence="Credits rank touches; their size may be far too small. Do not price a touch by it.",
        )
    error = f"about {calibration['relative_error']:.0%}"
    if source == "randomised":
        journeys = f"{calibration['randomised_journeys']:,} journeys with randomised exposures"
        return Statement(
            what=what,
            identified=True,
            why=f"{journeys} set it, to {error}.",
            consequence="Differences of credits are uploads; see the intervals.",
        )
    return Statement(
        what=what,
        identified=False,
        why="No exposure was randomised; what two kinds of responses agree on tells how noisy they are.",
        consequence=f"The size of credits is off by {error} where that holds. Randomise some exposures to be sure.",
    )
