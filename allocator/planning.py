"""One allocation: answer a replay, value the options, solve for the plan, spend it."""

from __future__ import annotations

import hashlib
from dataclasses import asdict
from typing import Any

import numpy as np

from allocator.api import AllocationAnswer, AllocationRequest
from allocator.ledger import Ledger, Receipt, Spend, SpendLine
from allocator.models import ModelStore, Serving
from allocator.scoring import Candidate, option_values
from allocator.solver import Floats, Ints, Plan, solve
from features.errors import BudgetExceeded

SPEND_ATTEMPTS = 20
"""Plans tried against a budget that others spend from meanwhile; each failure means that another spend went through."""


def allocate(request: AllocationRequest, *, models: ModelStore, ledger: Ledger, actor: str) -> AllocationAnswer:
    """The plan of the request, spent unless it is a dry run.

    Raises NotFound (budget), NoModel, UnknownInput, Conflict (request_id used for something else), BudgetExceeded.
    """
    digest = request_digest(request)
    earlier = None if request.dry_run else ledger.receipt(request.request_id, digest)
    if earlier is not None:
        return _answer(request, earlier)
    ledger.budget(request.budget)  # an unknown budget is said before the options are valued
    serving = models.current()
    values = option_values(serving.model, _candidates(request))
    for attempt in range(SPEND_ATTEMPTS):
        remaining = ledger.budget(request.budget).remaining
        limit = remaining if request.units is None else min(remaining, request.units)
        spend = _spend(request, digest, values, limit, serving)
        if request.dry_run:
            answer = {**spend.answer, "remaining": remaining}
            return _answer(request, Receipt(lines=spend.lines, answer=answer, replayed=False))
        try:
            return _answer(request, ledger.spend(spend, actor=actor))
        except BudgetExceeded:
            if attempt == SPEND_ATTEMPTS - 1:
                raise
    raise AssertionError("unreachable")


def request_digest(request: AllocationRequest) -> str:
    """SHA-256 of what the request asks for; equal for replays."""
    content = request.model_dump_json(exclude={"request_id", "dry_run"})
    return hashlib.sha256(content.encode()).hexdigest()


def _candidates(request: AllocationRequest) -> list[Candidate]:
    return [
        Candidate(
            user_id=user.user_id,
            profile=user.profile,
            history=[(touch.item_id, touch.gap_hours) for touch in user.history],
            options=[(option.item_id, option.cost) for option in user.options],
        )
        for user in request.users
    ]


def _spend(request: AllocationRequest, digest: str, value_N: Floats, limit: int, serving: Serving) -> Spend:
    options = [(user.user_id, option.item_id, option.cost) for user in request.users for option in user.options]
    user_N, item_N, cost_N = (np.array(column, np.int64) for column in zip(*options, strict=True))
    plan = solve(user_N, item_N, cost_N, value_N, limit)
    return Spend(
        request_id=request.request_id,
        digest=digest,
        budget=request.budget,
        lines=_lines(plan, user_N, item_N, cost_N, value_N),
        answer=_summary(plan, serving),
    )


def _lines(plan: Plan, user_N: Ints, item_N: Ints, cost_N: Ints, value_N: Floats) -> tuple[SpendLine, ...]:
    columns = (column[plan.chosen].tolist() for column in (user_N, item_N, cost_N, value_N))
    return tuple(
        SpendLine(user_id=user, item_id=item, cost=cost, value=value)
        for user, item, cost, value in zip(*columns, strict=True)
    )


def _summary(plan: Plan, serving: Serving) -> dict[str, Any]:
    pushed = serving.pushed
    return {
        "spent": plan.spent,
        "value": plan.value,
        "dual_price": plan.dual_price,
        "bound": plan.bound,
        "gap": plan.gap,
        "model": {"name": pushed.name, "version": pushed.version, "sha256": pushed.sha256},
    }


def _answer(request: AllocationRequest, receipt: Receipt) -> AllocationAnswer:
    return AllocationAnswer.model_validate(
        {
            **receipt.answer,
            "request_id": request.request_id,
            "plan": [asdict(line) for line in receipt.lines],
            "dry_run": request.dry_run,
            "replayed": receipt.replayed,
        }
    )
