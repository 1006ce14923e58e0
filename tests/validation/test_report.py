"""The report: one page, self-contained, escaped, the same bytes for the same evaluation."""

from __future__ import annotations

import json
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from evaluation_example import evaluation_example

from validation import formats
from validation.report import render_report

VOID = {"meta", "link", "br", "img", "hr", "input"}
EVIL = "<script>alert('x')</script>"


class Page(HTMLParser):
    """Text, references and tags of a page; fails on a tag that does not match its end."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.text, self.references, self.tags = "", [], set[str]()
        self._open: list[str] = []
        self.feed(html)
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        if tag not in VOID:
            self._open.append(tag)
        self.references += [v for k, v in attrs if k in {"src", "href", "xlink:href", "data", "action", "srcset"}]
        assert not [k for k, _ in attrs if k.startswith("on")]

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self._open.pop()

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        if "style" not in self._open:
            self.text += data + " "


def rendered(evaluation: dict[str, Any], folder: Path) -> tuple[str, Page]:
    render_report(evaluation, folder / "report.html")
    html = (folder / "report.html").read_text()
    return html, Page(html)


def test_a_full_page_asks_for_nothing_and_says_everything(tmp_path: Path) -> None:
    html, page = rendered(evaluation_example(), tmp_path)
    assert len(html.encode()) < 2_000_000
    assert all(str(reference).startswith("#") for reference in page.references)
    assert "script" not in page.tags
    assert "url(http" not in html
    assert "@import" not in html
    for part in ("Approved", "champion v3", "0.821", "+12.0", "1,801", "No bucket is worse", "5d1f5d1f", "58%"):
        assert part in page.text
    # 3 deciding and 2 comparing judges x 5 buckets, 2 loss curves, calibration; the rest are legend swatches
    assert html.count('<svg role="img"') == 28


def test_every_value_is_escaped(tmp_path: Path) -> None:
    def poison(value: Any, key: str = "") -> Any:
        if isinstance(value, dict):
            return {name: poison(item, name) for name, item in value.items()}
        if isinstance(value, list):
            return [poison(item, key) for item in value]
        return (
            value + EVIL if isinstance(value, str) and key not in {"judge", "ranking", "bucket", "rankings"} else value
        )

    poisoned = poison(evaluation_example())
    poisoned["rankings"].append(EVIL)
    poisoned["metrics"][EVIL] = 1.0
    poisoned["counts"][EVIL] = {EVIL: 1}
    poisoned["training"]["epochs"][0][f"selection_{EVIL}"] = 1.0
    poisoned["curves"].append({**poisoned["curves"][0], "judge": EVIL, "ranking": EVIL})
    poisoned["auuc"].append({**poisoned["auuc"][0], "judge": EVIL, "ranking": EVIL})
    html, page = rendered(poisoned, tmp_path)
    assert "script" not in page.tags
    assert "<script" not in html
    assert page.text.count("alert('x')") > 20


def test_the_same_evaluation_gives_the_same_bytes(tmp_path: Path) -> None:
    (first, _), (second, _) = (rendered(evaluation_example(), tmp_path) for _ in range(2))
    assert first == second


@pytest.mark.parametrize("section", [key for key in evaluation_example() if key != "verdict"])
def test_a_missing_section_disappears(section: str, tmp_path: Path) -> None:
    evaluation = evaluation_example()
    if section != "curves":
        evaluation["curves"] = evaluation["curves"][:4]  # drawing is slow
    del evaluation[section]
    _, page = rendered(evaluation, tmp_path)
    assert "Approved" in page.text


def test_logs_without_mediator_evidence(tmp_path: Path) -> None:
    """What remains of a refusal: no curves, no truth, no gate keys, nulls where nothing was computed."""
    evaluation = {
        "verdict": "rejected",
        "reasons": ["no mediator evidence: the logs hold no responses to touchpoints"],
        "identification": [{"what": "mediator evidence", "identified": False, "why": "w", "consequence": "c"}],
        "buckets": [],
        "rankings": [],
        "curves": [],
        "auuc": [{"judge": "raw", "ranking": "candidate", "bucket": "all", "area": 0.0}],
        "gate": {"champion": "last_touch", "keys": [], "area_low": None, "journeys_needed": None},
        "metrics": {},
        "training": {"epochs": [{"epoch": 0, "train_loss": 0.5, "selection_loss": 0.6}]},
    }
    html, page = rendered(evaluation, tmp_path)
    assert "Rejected" in page.text
    assert "no mediator evidence: the logs hold no responses" in page.text
    assert "Known truth" not in page.text
    assert "The gate's keys" not in page.text
    assert html.count('<svg role="img"') == 1


def test_the_truth_table_stands_beside_the_naive_ranking(tmp_path: Path) -> None:
    evaluation = evaluation_example()
    _, page = rendered(evaluation, tmp_path)
    words = " ".join(page.text.split())
    assert "Measure Candidate Naive leave-one-out Correlation of credits with the true effects" in words
    assert "effects 1 is perfect 0.821 0.012" in words


def test_sensitivity_and_calibration_are_shown_in_their_units(tmp_path: Path) -> None:
    _, page = rendered(evaluation_example(), tmp_path)
    words = " ".join(page.text.split())
    assert "Better than champion v3 FD Direct path T -> Y past the responses" in words
    assert "0.433 0.578 3.05 SDs of the measured effects" in words
    assert "0.114 0.119 – share of what is left" in words
    assert "Calibration of what was observed" in words


def test_without_a_verdict_there_is_no_page(tmp_path: Path) -> None:
    with pytest.raises(KeyError, match="verdict"):
        render_report({}, tmp_path / "report.html")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (0.8213, "0.821"),
        (0.0312, "0.031"),
        (0.004, "0.0040"),
        (-1.7249, "−1.72"),
        (14.72, "14.7"),
        (1801.0, "1,801"),
        (644_312, "644,312"),
        (3.2e-8, "3.20e-08"),
        (0.0, "0"),
        (None, "–"),
        (float("nan"), "–"),
        (True, "yes"),
        ("text", "text"),
    ],
)
def test_numbers(value: Any, shown: str) -> None:
    assert formats.number(value) == shown


def test_uplifts_are_per_thousand_touches() -> None:
    assert formats.uplift(5.85e-4) == "+0.585"
    assert formats.uplift(-0.0114) == "−11.4"
    assert formats.interval({"low": 1e-3, "high": 2e-3}) == "+1.00 to +2.00"
    assert formats.interval({"low": 1e-3, "high": 1e-3}) == ""
    assert formats.interval({}) == ""


def test_the_example_is_valid_json() -> None:
    json.dumps(evaluation_example(), allow_nan=False)
