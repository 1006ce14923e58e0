"""What the report says of the scale of effects, by where it comes from."""

from __future__ import annotations

import pytest

from validation.identification import _scale


@pytest.mark.parametrize(
    ("calibration", "identified", "says"),
    [
        ({}, False, "responses of one kind do not tell"),
        ({"source": "none", "relative_error": 1.0, "randomised_journeys": 0}, False, "may be far too small"),
        ({"source": "reliability", "relative_error": 0.25, "randomised_journeys": 0}, False, "off by about 25%"),
        (
            {"source": "randomised", "relative_error": 0.084, "randomised_journeys": 6_292}, True,
            "6,292 journeys with randomised exposures set it, to about 8%",
        ),
    ],
    ids=["no account", "none", "reliability", "randomised"],
)  # fmt: skip
def test_the_scale_is_as_sure_as_its_source(calibration: dict[str, object], identified: bool, says: str) -> None:
    statement = _scale(calibration)
    assert statement.identified is identified
    assert says in f"{statement.why} {statement.consequence}"
