"""Which option to give whom under one budget: a multiple-choice knapsack solved by its dual price.

    max  Σ_u Σ_k v_uk z_uk    s.t.  Σ_u Σ_k c_uk z_uk ≤ B,   Σ_k z_uk ≤ 1 for every user u,   z_uk ∈ {0, 1}

Relaxing the budget at a price λ ≥ 0 (value per unit) separates the users; every λ bounds the optimum from above:

    L(λ) = λB + Σ_u max(0, max_k (v_uk − λ c_uk)) ≥ optimum,    spend(λ) = Σ_u c_u,k*(u,λ)  falls with λ.

Bisection keeps spend(λ_low) > B ≥ spend(λ_high); the plan at λ_high is feasible, the least L seen is the bound.
A greedy pass then spends the rest on upgrades (u: k -> k') in falling order of Δv/Δc. The best single option replaces
the plan if worth more. The gap is at most one option's value: value ≥ bound / 2, and it vanishes with many users.

Letters: N options, U users; v value, c cost (integer units), B budget (integer units).
References: H. Everett, Operations Research 11 (1963) 399; Kellerer, Pferschy, Pisinger: Knapsack Problems (2004), 11.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]

PRICE_STEPS = 50
"""Upper limit on the bisection; it stops earlier, when the two prices agree to float64 or the budget is met exactly."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What to spend. `spent` never exceeds the budget and `value` never exceeds `bound`."""

    chosen: Ints
    """[M] positions of the taken options in the caller's arrays, ordered by user; at most one a user."""
    spent: int
    """Cost units."""
    value: float
    """Σ v of the chosen options."""
    dual_price: float
    """λ: value that one more unit of budget would bring; 0 when the budget does not bind."""
    bound: float
    """No plan under this budget is worth more."""

    @property
    def gap(self) -> float:
        """Relative distance to the bound, in [0, 1]."""
        return 0.0 if self.bound <= 0 else max(0.0, 1 - self.value / self.bound)


@dataclass(frozen=True)
class _Options:
    """Options worth taking, sorted by user and then by cost, so that the first of equals is the cheapest."""

    position: Ints
    user: Ints
    start: Ints
    cost: Ints
    value: Floats

    def best(self, price: float) -> tuple[Ints, Floats]:
        """Each user's best option at `price`: its index here, or -1 for none; and its reduced value, at least 0."""
        reduced = self.value - price * self.cost
        top = np.maximum.reduceat(reduced, self.start)
        index = np.arange(len(reduced))
        first = np.minimum.reduceat(np.where(reduced == top[self.user], index, len(index)), self.start)
        return np.where(top > 0, first, -1), np.maximum(top, 0)

    def spend(self, pick: Ints) -> int:
        return int(self.cost[pick[pick >= 0]].sum())


def solve(user_N: Ints, item_N: Ints, cost_N: Ints, value_N: Floats, budget: int) -> Plan:
    """The plan for options (user, item, cost in units >= 0, value), in any order; `item_N` only breaks ties.

    Raises ValueError for a negative cost or budget, a value that is not finite, or costs whose sum passes int64.
    """
    options = _worth_taking(user_N, item_N, cost_N, value_N, budget)
    if len(options.value) == 0:
        return Plan(chosen=np.empty(0, np.int64), spent=0, value=0.0, dual_price=0.0, bound=0.0)
    pick, price, bound = _bisect(options, budget)
    pick = _fill(options, pick, budget)
    best_single = int(np.argmax(options.value))
    if options.value[best_single] > options.value[pick[pick >= 0]].sum():
        pick = np.full(len(options.start), -1, np.int64)
        pick[options.user[best_single]] = best_single
        pick = _fill(options, pick, budget)
    taken = pick[pick >= 0]
    value = float(options.value[taken].sum())
    return Plan(
        chosen=options.position[taken],
        spent=options.spend(pick),
        value=value,
        dual_price=price,
        bound=max(bound, value),  # the bound is a sum in another order: it may round to just below an optimal value
    )


def _worth_taking(user_N: Ints, item_N: Ints, cost_N: Ints, value_N: Floats, budget: int) -> _Options:
    if budget < 0 or (cost_N < 0).any():
        raise ValueError("costs and budget must not be negative")
    if not np.isfinite(value_N).all():
        raise ValueError("every value must be finite")
    keep = np.flatnonzero((value_N > 0) & (cost_N <= budget))
    order = keep[np.lexsort((item_N[keep], -value_N[keep], cost_N[keep], user_N[keep]))]
    user = user_N[order]
    start = np.flatnonzero(np.concatenate([[True], user[1:] != user[:-1]])[: len(user)])
    if len(order) and int(cost_N[order].max()) * len(start) > np.iinfo(np.int64).max:
        raise ValueError("the costs add up past int64: use a coarser unit")
    return _Options(
        position=order,
        user=np.repeat(np.arange(len(start)), np.diff(start, append=len(order))),
        start=start,
        cost=cost_N[order],
        value=value_N[order],
    )


def _bisect(options: _Options, budget: int) -> tuple[Ints, float, float]:
    """(feasible picks, their price, least dual bound)."""
    pick, reduced = options.best(0.0)
    bound = float(reduced.sum())
    if options.spend(pick) <= budget:
        return pick, 0.0, bound
    low, high = 0.0, float(np.max(options.value / np.maximum(options.cost, 1)))
    high *= 1 + 1e-12  # no option with a cost may still pay at `high`, not even by rounding
    pick, reduced = options.best(high)
    bound = min(bound, high * budget + float(reduced.sum()))
    for _ in range(PRICE_STEPS):
        price = (low + high) / 2
        if not low < price < high:
            break
        candidate, reduced = options.best(price)
        bound = min(bound, price * budget + float(reduced.sum()))
        spend = options.spend(candidate)
        if spend > budget:
            low = price
        else:
            high, pick = price, candidate
        if spend == budget:
            break
    return pick, high, bound


def _fill(options: _Options, pick: Ints, budget: int) -> Ints:
    """Spend the rest: each round every user offers the affordable upgrade with most value a unit, best first."""
    pick = pick.copy()
    while True:
        held = pick[options.user]
        more_value = options.value - np.where(held >= 0, options.value[held], 0.0)
        more_cost = options.cost - np.where(held >= 0, options.cost[held], 0)
        rest = budget - options.spend(pick)
        offers = np.flatnonzero((more_value > 0) & (more_cost <= rest))
        if len(offers) == 0:
            return pick
        rate = more_value[offers] / np.maximum(more_cost[offers], 1)
        offers = offers[np.lexsort((offers, -rate))]
        _, first = np.unique(options.user[offers], return_index=True)
        offers = offers[np.sort(first)]
        fits = np.cumsum(np.maximum(more_cost[offers], 0)) <= rest
        accepted = offers[: int(np.argmin(fits)) if not fits.all() else len(offers)]
        pick[options.user[accepted]] = accepted
