from __future__ import annotations

import pytest

from features.errors import ConfigError
from pipelines.platform import ClusterPlatform
from pipelines.submit import SCHEDULED_TIME, Submission, send

ARGUMENTS = {
    "logs": "/data/logs",
    "config": "",
    "allocator_url": "http://a:1",
    "model_store": "/m",
    "checkpoint_root": "/c",
}


def _submission(cron: str) -> Submission:
    return Submission(
        host="", namespace="", experiment="alm-mta", name="nightly", arguments=ARGUMENTS, platform=ClusterPlatform(),
        cron=cron,
    )  # fmt: skip


def test_dry_run_says_what_a_run_would_send() -> None:
    sent = send(_submission(""), dry_run=True)
    call = sent["calls"]["create_run_from_pipeline_package"]
    assert call["arguments"] == ARGUMENTS
    assert call["run_name"] == "nightly"
    assert len(call["pipeline_package_sha256"]) == 64


def test_dry_run_of_a_schedule_passes_the_scheduled_time_and_never_catches_up() -> None:
    call = send(_submission("0 0 3 * * *"), dry_run=True)["calls"]["create_recurring_run"]
    assert call["params"]["scheduled_time"] == SCHEDULED_TIME
    assert (call["no_catchup"], call["max_concurrency"]) == (True, 1)


def test_equal_submissions_name_equal_packages() -> None:
    first, second = (send(_submission("0 0 3 * * *"), dry_run=True) for _ in range(2))
    assert first == second


def test_cron_of_five_fields_is_refused() -> None:
    with pytest.raises(ConfigError, match="six, seconds first"):
        _submission("0 3 * * *")
