"""A process that spends: `python spender.py DATABASE BUDGET PREFIX COUNT UNITS`; prints each granted request."""

from __future__ import annotations

import sys
from pathlib import Path

from allocator.database import Database
from allocator.ledger import Ledger, Spend, SpendLine
from features.errors import BudgetExceeded


def spend(request_id: str, budget: str, units: int) -> Spend:
    line = SpendLine(user_id=1, item_id=2, cost=units, value=0.25)
    return Spend(request_id=request_id, digest=f"d-{request_id}", budget=budget, lines=(line,), answer={"spent": units})


def main() -> None:
    path, budget, prefix, count, units = sys.argv[1:]
    database = Database(Path(path))
    for number in range(int(count)):
        try:
            Ledger(database).spend(spend(f"{prefix}-{number}", budget, int(units)), actor="test")
        except BudgetExceeded:
            break
        sys.stdout.write(f"{prefix}-{number}\n")
        sys.stdout.flush()
    database.close()


if __name__ == "__main__":
    main()
