from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import Bounds, LinearConstraint, milp

from allocator.solver import Plan, solve

Instance = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, int]


@st.composite
def instances(draw: st.DrawFn) -> Instance:
    """Few users and coarse numbers, so that ties, free options and options dearer than the budget are common."""
    users = draw(st.lists(st.integers(-3, 4), min_size=1, max_size=20))
    N = len(users)
    cost = draw(st.lists(st.integers(0, 12), min_size=N, max_size=N))
    value = draw(st.lists(st.integers(-3, 20).map(lambda v: v / 8), min_size=N, max_size=N))
    budget = draw(st.integers(0, 40))
    return np.array(users), np.arange(N), np.array(cost), np.array(value), budget


def optimum(user_N: np.ndarray, cost_N: np.ndarray, value_N: np.ndarray, budget: int) -> float:
    """The integer programme solved exactly by HiGHS."""
    one_a_user = (user_N[None, :] == np.unique(user_N)[:, None]).astype(float)
    result = milp(
        -value_N,
        integrality=np.ones(len(value_N)),
        bounds=Bounds(0, 1),
        constraints=[LinearConstraint(one_a_user, ub=1), LinearConstraint(cost_N[None, :].astype(float), ub=budget)],
        options={"mip_rel_gap": 0},
    )
    assert result.success
    return -float(result.fun)


def random_instance(seed: int, users: int, options: int, share: float) -> Instance:
    """Budget = `share` of what it would cost to give every user the dearest option."""
    rng = np.random.default_rng(seed)
    N = users * options
    cost = rng.integers(1, 50, N)
    value = rng.lognormal(-4, 1, N)
    return np.repeat(np.arange(users), options), np.arange(N), cost, value, int(50 * users * share)


def assert_feasible(plan: Plan, instance: Instance) -> None:
    user_N, _, cost_N, value_N, budget = instance
    assert plan.spent == cost_N[plan.chosen].sum() <= budget
    assert plan.value == pytest.approx(value_N[plan.chosen].sum())
    assert len(np.unique(user_N[plan.chosen])) == len(plan.chosen)
    assert (value_N[plan.chosen] > 0).all()


def test_by_hand() -> None:
    """Budget 10. User 1: (cost 4, value 4) or (8, 6); user 2: (5, 3); user 3: (3, 1.5) or (1, -1).

    Rates: 4/4 = 1, then 3/5 = .6, then the upgrade (6-4)/(8-4) = .5 and 1.5/3 = .5. At prices in (.5, .6) the plan is
    {1: 4, 2: 5}, spend 9, value 7; the last unit buys nothing (the cheapest further thing costs 3). At price .5 the
    bound is .5·10 + (4 - 2) + (3 - 2.5) + 0 = 7.5.
    """
    user, item = np.array([1, 1, 2, 3, 3]), np.arange(5)
    cost, value = np.array([4, 8, 5, 3, 1]), np.array([4.0, 6.0, 3.0, 1.5, -1.0])
    plan = solve(user, item, cost, value, 10)
    assert plan.chosen.tolist() == [0, 2]
    assert (plan.spent, plan.value) == (9, 7.0)
    assert plan.dual_price == pytest.approx(0.5)
    assert plan.bound == pytest.approx(7.5)
    assert plan.gap == pytest.approx(0.5 / 7.5)


@settings(deadline=None, max_examples=150)
@given(instances())
def test_between_half_the_bound_and_the_exact_optimum(instance: Instance) -> None:
    user_N, _, cost_N, value_N, budget = instance
    plan = solve(*instance)
    best = optimum(user_N, cost_N, value_N, budget)
    largest = max([0.0, *value_N[cost_N <= budget]])
    assert_feasible(plan, instance)
    assert plan.value <= best + 1e-9
    assert best <= plan.bound + 1e-9
    assert plan.bound - plan.value <= largest + 1e-9
    assert plan.value >= plan.bound / 2 - 1e-9


@settings(deadline=None, max_examples=150)
@given(instances(), st.randoms(use_true_random=False))
def test_the_order_of_the_rows_does_not_matter(instance: Instance, random: object) -> None:
    user_N, item_N, cost_N, value_N, budget = instance
    order = np.arange(len(user_N))
    random.shuffle(order)  # type: ignore[attr-defined]
    plan = solve(*instance)
    shuffled = solve(user_N[order], item_N[order], cost_N[order], value_N[order], budget)
    assert order[shuffled.chosen].tolist() == plan.chosen.tolist()
    assert (shuffled.spent, shuffled.value, shuffled.bound) == (plan.spent, plan.value, plan.bound)


@pytest.mark.parametrize("share", [0.001, 0.05, 0.3])
def test_the_gap_vanishes_with_many_users(share: float) -> None:
    instance = random_instance(seed=3, users=5_000, options=6, share=share)
    plan = solve(*instance)
    assert_feasible(plan, instance)
    assert plan.gap < 1e-3


def test_one_price_shared_by_everybody_still_fills_the_budget() -> None:
    """1,000 equal users: at the price the spend jumps from 0 to 3,000, so the fill pass alone decides."""
    N = 1_000
    plan = solve(np.arange(N), np.arange(N), np.full(N, 3), np.full(N, 0.3), 1_000)
    assert (plan.spent, len(plan.chosen)) == (999, 333)
    assert plan.bound == pytest.approx(100.0)


def test_a_budget_that_does_not_bind_has_no_price() -> None:
    user, item, cost = np.array([1, 1, 2]), np.arange(3), np.array([5, 9, 7])
    plan = solve(user, item, cost, np.array([1.0, 2.0, 3.0]), 16)
    assert plan.chosen.tolist() == [1, 2]
    assert (plan.dual_price, plan.gap) == (0.0, 0.0)


def test_the_one_big_option_beats_the_efficient_crumb() -> None:
    """Greedy takes (1, .2) and then cannot afford (10, 1): the single best option is the plan."""
    plan = solve(np.array([1, 2]), np.arange(2), np.array([1, 10]), np.array([0.2, 1.0]), 10)
    assert plan.chosen.tolist() == [1]


def test_user_ids_beyond_float_precision_are_different_users() -> None:
    plan = solve(np.array([2**60, 2**60 + 1]), np.arange(2), np.ones(2, int), np.ones(2), 2)
    assert len(plan.chosen) == 2


def test_nothing_worth_taking_is_an_empty_plan() -> None:
    plan = solve(np.array([1, 2]), np.arange(2), np.array([1, 100]), np.array([-1.0, 5.0]), 10)
    assert (plan.chosen.tolist(), plan.spent, plan.value, plan.bound) == ([], 0, 0.0, 0.0)


@pytest.mark.parametrize(
    ("cost", "value", "budget"),
    [([-1, 1], [1.0, 1.0], 5), ([1, 1], [np.nan, 1.0], 5), ([1, 1], [1.0, 1.0], -1), ([2**62] * 2, [1.0, 1.0], 2**62)],
)
def test_numbers_that_cannot_mean_anything_are_refused(cost: list[int], value: list[float], budget: int) -> None:
    with pytest.raises(ValueError, match=r"negative|finite|int64"):
        solve(np.arange(2), np.arange(2), np.array(cost), np.array(value), budget)
