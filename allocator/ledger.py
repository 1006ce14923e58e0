"""Budgets and what was spent of them: one transaction a spend, one answer a request.

In one `BEGIN IMMEDIATE` transaction: look up the request (a replay gets its first answer and spends nothing), then
`UPDATE budget SET spent = spent + ? WHERE spent + ? <= total` (no row changed = it would overspend), then the rows.
Money is integer units.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from allocator.database import Database, append_audit, utc_now
from allocator.errors import Conflict, NotFound
from features.errors import BudgetExceeded


@dataclass(frozen=True, kw_only=True)
class Budget:
    """A named amount of integer cost units."""

    name: str
    total: int
    spent: int

    @property
    def remaining(self) -> int:
        return self.total - self.spent


@dataclass(frozen=True, kw_only=True)
class SpendLine:
    """One granted option."""

    user_id: int
    item_id: int
    cost: int
    value: float


@dataclass(frozen=True, kw_only=True)
class Spend:
    """One request's spend. `digest` identifies the request's content, `answer` is JSON-able and kept for replays."""

    request_id: str
    digest: str
    budget: str
    lines: tuple[SpendLine, ...]
    answer: dict[str, Any]

    @property
    def units(self) -> int:
        return sum(line.cost for line in self.lines)


@dataclass(frozen=True, kw_only=True)
class Receipt:
    """What is on record for a request: the same for the first call and every replay, but for `replayed`."""

    lines: tuple[SpendLine, ...]
    answer: dict[str, Any]
    replayed: bool


class Ledger:
    """Budgets, spends and their idempotency keys in `database`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def set_budget(self, name: str, total: int, *, actor: str) -> Budget:
        """Make the budget or change its total. Raises Conflict when more than `total` is already spent."""
        with self._database.transaction() as connection:
            row = connection.execute("SELECT spent FROM budget WHERE name = ?", (name,)).fetchone()
            spent = 0 if row is None else int(row["spent"])
            if total < spent:
                raise Conflict(f"budget '{name}': {spent} units are already spent, its total cannot become {total}")
            connection.execute(
                "INSERT INTO budget (name, total) VALUES (?, ?) ON CONFLICT DO UPDATE SET total = excluded.total",
                (name, total),
            )
            detail = {"budget": name, "total": total, "spent": spent}
            append_audit(connection, actor=actor, action="budget.set", detail=detail)
        return Budget(name=name, total=total, spent=spent)

    def budget(self, name: str) -> Budget:
        """Raises NotFound."""
        rows = self._database.rows("SELECT total, spent FROM budget WHERE name = ?", (name,))
        if not rows:
            raise NotFound(f"there is no budget '{name}': make it with PUT /v1/budgets/{name}")
        return Budget(name=name, total=int(rows[0]["total"]), spent=int(rows[0]["spent"]))

    def receipt(self, request_id: str, digest: str) -> Receipt | None:
        """The first answer to this request, or None. Raises Conflict when the id was used for another request."""
        rows = self._database.rows("SELECT digest, answer FROM spend WHERE request_id = ?", (request_id,))
        if not rows:
            return None
        if rows[0]["digest"] != digest:
            raise Conflict(f"request_id '{request_id}' was already used for another request: choose a new one")
        lines = self._database.rows(
            "SELECT user_id, item_id, cost, value FROM spend_line WHERE request_id = ? ORDER BY position", (request_id,)
        )
        return Receipt(
            lines=tuple(SpendLine(**dict(line)) for line in lines),
            answer=json.loads(rows[0]["answer"]),
            replayed=True,
        )

    def spend(self, spend: Spend, *, actor: str) -> Receipt:
        """Spend, once. A replay returns the first receipt.

        Raises BudgetExceeded (nothing is spent), Conflict (the id belongs to another request), NotFound (no budget).
        """
        with self._database.transaction() as connection:
            earlier = self.receipt(spend.request_id, spend.digest)
            if earlier is not None:
                return earlier
            changed = connection.execute(
                "UPDATE budget SET spent = spent + ? WHERE name = ? AND spent + ? <= total",
                (spend.units, spend.budget, spend.units),
            ).rowcount
            if changed == 0:
                left = self.budget(spend.budget).remaining
                raise BudgetExceeded(f"budget '{spend.budget}' has {left} units left, {spend.units} were asked for")
            answer = {**spend.answer, "remaining": self.budget(spend.budget).remaining}
            connection.execute(
                "INSERT INTO spend (request_id, digest, budget, units, answer, at) VALUES (?, ?, ?, ?, ?, ?)",
                (spend.request_id, spend.digest, spend.budget, spend.units, json.dumps(answer), utc_now()),
            )
            connection.executemany(
                "INSERT INTO spend_line VALUES (?, ?, ?, ?, ?, ?)",
                (
                    (spend.request_id, position, line.user_id, line.item_id, line.cost, line.value)
                    for position, line in enumerate(spend.lines)
                ),
            )
            detail = {"request_id": spend.request_id, "budget": spend.budget, "units": spend.units}
            append_audit(connection, actor=actor, action="budget.spend", detail=detail)
        return Receipt(lines=spend.lines, answer=answer, replayed=False)
