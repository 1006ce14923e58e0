from __future__ import annotations

import logging
import shutil
import socket
import sqlite3
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

import httpx
import pytest
from running_service import TLS, TOKENS, Service, Start, running
from tiny_bundle import EFFECT, write_bundle, write_manifest

from allocator.api import MAX_USERS
from allocator.database import Database, verify_audit
from allocator.ledger import Ledger
from allocator.models import resolve_uri
from allocator.serve import serve
from allocator.settings import AllocatorSettings
from features.errors import AllocatorError, BundleError, ConfigError


def user(user_id: int, *options: tuple[int, int], **more: Any) -> dict[str, Any]:
    return {"user_id": user_id, "options": [{"item_id": item, "cost": cost} for item, cost in options], **more}


def request(request_id: str, *users: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"request_id": request_id, "budget": "b", "users": list(users), **more}


def some_users(count: int) -> list[dict[str, Any]]:
    history = [{"item_id": 105, "gap_hours": 3.0}]
    return [user(u, (100 + u % 12, 2), (100 + (u + 5) % 12, 3), history=history, profile=None) for u in range(count)]


def set_budget(service: Service, total: int) -> None:
    assert service.call("PUT", "/v1/budgets/b", {"total_units": total}, scope="admin").status_code == 200


def error(answer: httpx.Response) -> tuple[int, str, str]:
    body = answer.json()
    assert set(body) == {"error"}
    assert set(body["error"]) == {"code", "message"}
    return answer.status_code, body["error"]["code"], body["error"]["message"]


@pytest.fixture(scope="module")
def idle(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """One service for requests that never get as far as its state."""
    folder = tmp_path_factory.mktemp("idle")
    tokens = {f"{scope}_token": token for scope, token in TOKENS.items()}
    with running(AllocatorSettings(state_dir=folder / "state", model_root=folder, **tokens)) as url:
        yield Service(url, folder)


# --- models


def test_before_any_push_it_is_alive_but_not_ready(service: Service) -> None:
    assert service.call("GET", "/healthz").status_code == 200
    ready = service.call("GET", "/readyz")
    assert ready.status_code == 503
    assert ready.json() == {"ready": False, "reasons": ["no model was pushed yet: POST /v1/models"]}
    assert error(service.call("GET", "/v1/models/current", scope="push"))[:2] == (503, "no_model")
    set_budget(service, 10)
    assert error(service.call("POST", "/v1/allocations", request("r", *some_users(1)), scope="allocate"))[:2] == (
        503,
        "no_model",
    )


def test_a_push_makes_it_ready_and_is_a_no_op_when_repeated(service: Service) -> None:
    body = service.push("1")
    again = service.call("POST", "/v1/models", body, scope="push")
    assert again.status_code == 200
    assert service.call("GET", "/readyz").json() == {"ready": True, "reasons": []}
    current = service.call("GET", "/v1/models/current", scope="allocate").json()
    assert current == again.json()
    del body["uri"]
    assert {name: current[name] for name in body} == body
    assert current["state"] == "active"


def test_another_hash_for_a_known_version_conflicts(service: Service) -> None:
    first = service.push("1")
    other = {**service.push_body("2", effect=EFFECT * 2), "version": "1"}
    status, code, message = error(service.call("POST", "/v1/models", other, scope="push"))
    assert (status, code) == (409, "conflict")
    assert first["sha256"] in message
    assert service.call("GET", "/v1/models/current", scope="push").json()["sha256"] == first["sha256"]


@pytest.mark.parametrize(
    ("break_it", "message"),
    [
        (lambda folder: (folder / "config.yaml").write_text("altered"), "config.yaml has SHA-256"),
        (lambda folder: (folder / "score.onnx").unlink(), "lacks score.onnx"),
        (lambda folder: write_manifest(folder, format=2, extra="field"), "the push names"),
        (shutil.rmtree, "there is no bundle at"),
    ],
)
def test_wrong_or_missing_bytes_are_refused_and_the_serving_model_stays(
    service: Service, tmp_path: Path, break_it: Any, message: str
) -> None:
    first = service.push("1")
    body = service.push_body("2")
    break_it(service.root / "bundle-2")
    status, code, said = error(service.call("POST", "/v1/models", body, scope="push"))
    assert (status, code) == (422, "bundle_refused")
    assert message in said
    assert service.call("GET", "/v1/models/current", scope="push").json()["version"] == "1"
    assert [path.name for path in (tmp_path / "state" / "models").iterdir()] == [first["sha256"]]


def test_a_push_of_another_feature_schema_is_refused(service: Service) -> None:
    body = {**service.push_body("1"), "feature_schema_hash": "0" * 64}
    status, _, message = error(service.call("POST", "/v1/models", body, scope="push"))
    assert status == 422
    assert "feature schema" in message


@pytest.mark.parametrize(
    "uri",
    [
        "{outside}",
        "file://{outside}",
        "../outside",
        "{root}/../outside",
        "file://{root}/%2e%2e/outside",
        "{root}/link",
        "file://elsewhere{root}/bundle",
        "https://localhost{root}/bundle",
        "file://{root}/bundle%00",
        "{root}/bundle/manifest.json",
        "{root}/absent",
    ],
)
def test_only_folders_under_the_model_root_are_read(tmp_path: Path, uri: str) -> None:
    root, outside = tmp_path / "models", tmp_path / "outside"
    write_bundle(outside)
    write_bundle(root / "bundle")
    (root / "link").symlink_to(outside)
    with pytest.raises(BundleError, match="must lie under its model root"):
        resolve_uri(uri.format(outside=outside, root=root), root)


@pytest.mark.parametrize(
    "uri", ["my bundle", "{root}/my bundle", "file://{root}/my%20bundle", "file://localhost{root}/my%20bundle"]
)
def test_paths_and_file_uris_name_the_same_folder(tmp_path: Path, uri: str) -> None:
    (tmp_path / "my bundle").mkdir()
    assert resolve_uri(uri.format(root=tmp_path), tmp_path) == tmp_path / "my bundle"


def test_a_push_from_outside_the_model_root_is_refused(service: Service, tmp_path: Path) -> None:
    body = service.push_body("1")
    shutil.move(service.root / "bundle-1", tmp_path / "outside")
    answer = service.call("POST", "/v1/models", {**body, "uri": str(tmp_path / "outside")}, scope="push")
    assert error(answer)[:2] == (422, "bundle_refused")
    inside = service.call("POST", "/v1/models", {**service.push_body("1"), "uri": "bundle-1"}, scope="push")
    assert inside.status_code == 201


def test_rollback_serves_the_previous_version(service: Service) -> None:
    assert error(service.call("POST", "/v1/models/rollback", scope="admin"))[:2] == (404, "not_found")
    for version in ("1", "2"):
        service.push(version)
    second = service.call("GET", "/v1/models/current", scope="push").json()
    back = service.call("POST", "/v1/models/rollback", scope="admin").json()
    assert (back["version"], back["state"]) == ("1", "active")
    assert service.call("GET", "/v1/models/current", scope="push").json() == back
    repeated = {name: second[name] for name in ("name", "version", "sha256", "feature_schema_hash", "approval_id")}
    again = service.call("POST", "/v1/models", {**repeated, "uri": "bundle-2"}, scope="push")
    assert (again.status_code, again.json()["state"]) == (200, "withdrawn"), "a late retry must not undo the rollback"
    assert service.call("GET", "/v1/models/current", scope="push").json()["version"] == "1"


def test_a_restarted_service_serves_what_it_served(start: Start, tmp_path: Path) -> None:
    folders = {"state_dir": tmp_path / "state", "model_root": tmp_path / "models"}
    settings = AllocatorSettings(**folders, **{f"{scope}_token": token for scope, token in TOKENS.items()})
    with running(settings) as url:
        service = Service(url, settings.model_root)
        for version in ("1", "2", "3"):
            service.push(version)
        service.call("POST", "/v1/models/rollback", scope="admin")
    shutil.rmtree(settings.model_root)
    settings.model_root.mkdir()
    service = start()
    assert service.call("GET", "/v1/models/current", scope="push").json()["version"] == "2"
    assert service.call("POST", "/v1/models/rollback", scope="admin").json()["version"] == "1"


def test_a_damaged_stored_model_is_said_and_repaired_by_the_same_push(start: Start, tmp_path: Path) -> None:
    settings = AllocatorSettings(
        state_dir=tmp_path / "state", model_root=tmp_path / "models", push_token=TOKENS["push"]
    )
    with running(settings) as url:
        body = Service(url, settings.model_root).push("1")
    (tmp_path / "state" / "models" / body["sha256"] / "config.yaml").write_text("damaged")
    service = start()
    reasons = service.call("GET", "/readyz").json()["reasons"]
    assert "config.yaml has SHA-256" in reasons[0]
    assert service.call("POST", "/v1/models", body, scope="push").status_code == 200
    assert service.call("GET", "/readyz").status_code == 200


def test_readiness_does_not_wait_for_the_disk_each_time(service: Service, tmp_path: Path) -> None:
    """Somebody else holds the write lock: a probe would wait 30 s for it, a read does not."""
    service.push("1")
    assert service.call("GET", "/readyz").status_code == 200
    other = sqlite3.connect(tmp_path / "state" / "ledger.sqlite", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    started = time.monotonic()
    assert service.call("GET", "/readyz").status_code == 200
    assert time.monotonic() - started < 9
    other.execute("ROLLBACK")
    other.close()


def test_a_shortened_audit_trail_stops_the_start(tmp_path: Path) -> None:
    folders = {"state_dir": tmp_path / "state", "model_root": tmp_path / "models"}
    with closing(Database(tmp_path / "state" / "ledger.sqlite")) as database:
        Ledger(database).set_budget("b", 10, actor="admin")
        with database.transaction() as connection:
            connection.execute("DROP TRIGGER audit_no_delete")
            connection.execute("DELETE FROM audit")
    with pytest.raises(AllocatorError, match=r"could not start: .* has 0 rows, .* its head says 1 rows"):
        serve(AllocatorSettings(**folders), port=0)


# --- budgets and allocations


def test_an_allocation_spends_within_the_budget(service: Service, tmp_path: Path) -> None:
    service.push("1")
    set_budget(service, 11)
    answer = service.call("POST", "/v1/allocations", request("r1", *some_users(20)), scope="allocate").json()
    assert 0 < answer["spent"] == sum(line["cost"] for line in answer["plan"]) <= 11
    assert answer["remaining"] == 11 - answer["spent"]
    assert answer["value"] == pytest.approx(sum(line["value"] for line in answer["plan"]))
    assert all(line["value"] > 0 for line in answer["plan"])
    assert answer["value"] <= answer["bound"]
    assert answer["gap"] == pytest.approx(1 - answer["value"] / answer["bound"])
    assert answer["model"]["version"] == "1"
    budget = service.call("GET", "/v1/budgets/b", scope="push").json()
    assert budget == {
        "name": "b",
        "total_units": 11,
        "spent_units": answer["spent"],
        "remaining_units": answer["remaining"],
    }
    with_database = Database(tmp_path / "state" / "ledger.sqlite")
    lines = with_database.rows("SELECT user_id, item_id, cost, value FROM spend_line ORDER BY position")
    assert [dict(line) for line in lines] == answer["plan"]
    assert verify_audit(with_database) == 3
    with_database.close()


def test_a_replay_gets_the_first_answer_even_from_another_model(service: Service) -> None:
    service.push("1")
    set_budget(service, 11)
    body = request("r1", *some_users(20))
    first = service.call("POST", "/v1/allocations", body, scope="allocate").json()
    service.push("2", effect=-EFFECT)
    replay = service.call("POST", "/v1/allocations", body, scope="allocate").json()
    assert (first.pop("replayed"), replay.pop("replayed")) == (False, True)
    assert replay == first
    changed = request("r1", *some_users(19))
    assert error(service.call("POST", "/v1/allocations", changed, scope="allocate"))[:2] == (409, "conflict")


def test_units_cap_a_plan_and_a_dry_run_spends_nothing(service: Service) -> None:
    service.push("1")
    set_budget(service, 30)
    dry = request("r1", *some_users(20), units=5, dry_run=True)
    answer = service.call("POST", "/v1/allocations", dry, scope="allocate").json()
    assert 0 < answer["spent"] <= 5
    assert (answer["remaining"], answer["dry_run"]) == (30, True)
    assert service.call("GET", "/v1/budgets/b", scope="allocate").json()["spent_units"] == 0
    real = service.call("POST", "/v1/allocations", {**dry, "dry_run": False}, scope="allocate").json()
    assert (real["plan"], real["replayed"], real["remaining"]) == (answer["plan"], False, 30 - real["spent"])
    nothing = request("r2", *some_users(20), units=0)
    assert service.call("POST", "/v1/allocations", nothing, scope="allocate").json()["spent"] == 0


def test_concurrent_requests_never_overspend(service: Service) -> None:
    """16 requests that each want about 40 units share 100."""
    service.push("1")
    set_budget(service, 100)

    def ask(number: int) -> httpx.Response:
        return service.call("POST", "/v1/allocations", request(f"r{number}", *some_users(20)), scope="allocate")

    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(ask, range(16)))
    assert {answer.status_code for answer in answers} == {200}
    spent = sum(answer.json()["spent"] for answer in answers)
    budget = service.call("GET", "/v1/budgets/b", scope="allocate").json()
    assert spent == budget["spent_units"]
    assert 97 < spent <= 100


def test_options_that_do_not_help_are_never_taken(service: Service) -> None:
    """With every cluster effect very negative no option is worth its free price."""
    service.push("1", effect=EFFECT * 0 - 50)
    set_budget(service, 100)
    answer = service.call(
        "POST", "/v1/allocations", request("r1", user(1, (100, 0), (101, 0))), scope="allocate"
    ).json()
    assert (answer["plan"], answer["bound"], answer["gap"], answer["dual_price"]) == ([], 0, 0, 0)


def test_unknown_things_are_named(service: Service) -> None:
    service.push("1")
    set_budget(service, 100)

    def refused(body: dict[str, Any]) -> tuple[int, str, str]:
        return error(service.call("POST", "/v1/allocations", body, scope="allocate"))

    status, code, message = refused(request("r", user(1, (7, 1)), user(2, (100, 1), (9, 1))))
    assert (status, code) == (422, "unknown_input")
    assert "2 items unknown to the model: 7, 9." in message
    seen = [{"item_id": 8, "gap_hours": 1}]
    assert "1 item unknown to the model: 9." in refused(request("r", user(1, (9, 1), history=seen)))[2]
    assert (
        "no profile column 'agee'; it has age, country"
        in refused(request("r", user(1, (100, 1), profile={"agee": 3})))[2]
    )
    assert "'age' is a number" in refused(request("r", user(1, (100, 1), profile={"age": "3"})))[2]
    assert refused({**request("r", user(1, (100, 1))), "budget": "other"})[:2] == (404, "not_found")


@pytest.mark.parametrize(
    ("body", "where"),
    [
        ({}, "body.request_id"),
        (request("r"), "body.users"),
        (request("r", user(1)), "body.users.0.options"),
        (request("r", user(1, (100, -1))), "body.users.0.options.0.cost"),
        (request("r", user(1, (100, 1), (100, 2))), "user 1 has an item twice"),
        (request("r", user(1, (100, 1)), user(1, (101, 1))), "a user_id occurs twice"),
        (request("r", user(1, (100, 1)), unknown=1), "body.unknown"),
        (request("r", user(1, (100, 1)), units=1.5), "body.units"),
        (request("r", user(2**63, (100, 1))), "body.users.0.user_id"),
        (request("r", user(1, (100, 1), history=[{"item_id": 1, "gap_hours": -1}])), "history.0.gap_hours"),
        (request("r r", user(1, (100, 1))), "body.request_id"),
        (request("r", *(user(u, (100, 1)) for u in range(MAX_USERS + 1))), f"at most {MAX_USERS}"),
    ],
)
def test_a_malformed_request_says_where(idle: Service, body: dict[str, Any], where: str) -> None:
    status, code, message = error(idle.call("POST", "/v1/allocations", body, scope="allocate"))
    assert (status, code) == (422, "invalid_request")
    assert where in message


def test_history_that_the_model_does_not_know_is_no_obstacle(service: Service) -> None:
    service.push("1")
    set_budget(service, 100)
    history = [{"item_id": 8, "gap_hours": 1.0}]
    offers = request("r", user(1, *((item, 1) for item in range(100, 112)), history=history))
    answer = service.call("POST", "/v1/allocations", offers, scope="allocate")
    assert answer.status_code == 200
    assert len(answer.json()["plan"]) == 1


def test_budgets_cannot_fall_below_what_is_spent(service: Service) -> None:
    assert error(service.call("GET", "/v1/budgets/b", scope="admin"))[:2] == (404, "not_found")
    service.push("1")
    set_budget(service, 11)
    service.call("POST", "/v1/allocations", request("r1", *some_users(20)), scope="allocate")
    assert error(service.call("PUT", "/v1/budgets/b", {"total_units": 1}, scope="admin"))[:2] == (409, "conflict")


# --- the edge


@pytest.mark.parametrize(
    ("method", "path", "right"),
    [
        ("POST", "/v1/models", {"push"}),
        ("POST", "/v1/models/rollback", {"admin"}),
        ("PUT", "/v1/budgets/b", {"admin"}),
        ("POST", "/v1/allocations", {"allocate"}),
        ("GET", "/v1/models/current", set(TOKENS)),
        ("GET", "/v1/budgets/b", set(TOKENS)),
    ],
)
def test_every_route_wants_its_scope(idle: Service, method: str, path: str, right: set[str]) -> None:
    assert error(idle.call(method, path, {}))[:2] == (401, "unauthenticated")
    for header in ("Bearer wrong", f"Basic {TOKENS['admin']}", f"Bearer {TOKENS['admin']}x", "Bearer", "Bearer \xe9"):
        sent = httpx.request(method, idle.url + path, headers={"Authorization": header.encode("latin-1")}, verify=TLS)
        assert sent.status_code == 401
    for scope in TOKENS:
        answer = idle.call(method, path, {}, scope=scope)
        assert (answer.status_code == 403) == (scope not in right), answer.text


def test_without_tokens_only_this_machine_is_answered(start: Start) -> None:
    service = start(push_token=None, allocate_token=None, admin_token=None)
    assert service.call("GET", "/v1/models/current").status_code == 503
    rebound = httpx.get(f"{service.url}/v1/models/current", headers={"Host": "attacker.example"})
    assert error(rebound)[:2] == (403, "forbidden")


def test_without_tokens_no_web_page_is_answered(start: Start) -> None:
    """What a browser adds to a page's request cannot be left out by the page."""
    service = start(push_token=None, allocate_token=None, admin_token=None)

    def asked(**headers: str) -> httpx.Response:
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        return httpx.put(f"{service.url}/v1/budgets/b", json={"total_units": 1}, headers=sent)

    for page in (
        {"Origin": "https://attacker.example"},
        {"Origin": "null"},
        {"Sec_Fetch_Site": "cross-site"},
        {"Sec_Fetch_Site": "same-site"},
    ):
        status, code, message = error(asked(**page))
        assert (status, code) == (403, "forbidden"), page
        assert "answers no web page" in message
    assert service.call("GET", "/v1/budgets/b").status_code == 404, "nothing was set"
    for own in ({}, {"Sec_Fetch_Site": "none"}, {"Sec_Fetch_Site": "same-origin"}):
        assert asked(**own).status_code == 200, own


def test_a_scope_without_a_token_is_closed(start: Start) -> None:
    service = start(admin_token=None)
    assert service.call("PUT", "/v1/budgets/b", {"total_units": 1}, scope="admin").status_code == 401


def test_large_bodies_are_refused_announced_or_not(start: Start) -> None:
    service = start(max_body_bytes=1000)
    headers = {"Authorization": f"Bearer {TOKENS['allocate']}", "Content-Type": "application/json"}
    url = f"{service.url}/v1/allocations"
    assert error(httpx.post(url, content=b"{" + b" " * 2000, headers=headers))[:2] == (413, "too_large")
    chunks = (b" " * 100 for _ in range(20))
    assert error(httpx.post(url, content=chunks, headers=headers))[:2] == (413, "too_large")


def test_every_refusal_has_one_shape(idle: Service) -> None:
    assert error(idle.call("GET", "/nowhere"))[:2] == (404, "not_found")
    assert error(idle.call("DELETE", "/healthz"))[:2] == (405, "method_not_allowed")
    headers = {"Authorization": f"Bearer {TOKENS['push']}", "Content-Type": "application/json"}
    assert error(httpx.post(f"{idle.url}/v1/models", content=b"not json", headers=headers))[0] == 422


def test_a_ledger_that_cannot_be_written_is_said(service: Service, tmp_path: Path) -> None:
    service.push("1")
    thief = sqlite3.connect(tmp_path / "state" / "ledger.sqlite")
    thief.execute("DROP TABLE spend_line")
    thief.commit()
    thief.close()
    set_budget(service, 10)
    status, code, message = error(
        service.call("POST", "/v1/allocations", request("r", *some_users(3)), scope="allocate")
    )
    assert (status, code) == (503, "ledger_unavailable")
    assert "nothing was spent" in message
    assert service.call("GET", "/v1/budgets/b", scope="push").json()["spent_units"] == 0


def test_tokens_are_in_no_log_and_no_repr(service: Service, caplog: pytest.LogCaptureFixture, tmp_path: Path) -> None:
    caplog.set_level(logging.DEBUG)
    body = service.push("1")
    service.call("POST", "/v1/models", {**body, "version": "2", "uri": "nowhere"}, scope="push")
    service.call("PUT", "/v1/budgets/b", {"total_units": 1}, scope="push")
    settings = AllocatorSettings(state_dir=tmp_path, model_root=tmp_path, push_token=TOKENS["push"])
    ours = "\n".join(record.getMessage() for record in caplog.records if not record.name.startswith("httpcore"))
    assert "serves" in ours
    assert not any(token in ours + repr(settings) for token in TOKENS.values())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"push_token": "short"}, "allocator.push_token: the token has 5 characters, use at least 16"),
        ({"push_token": "a token with blanks in it"}, "printable ASCII without blanks"),
        ({"push_token": "x" * 16, "admin_token": "x" * 16}, "two scopes share one token"),
        ({"max_body_bytes": 0}, "allocator.max_body_bytes is 0"),
    ],
)
def test_settings_that_mean_nothing_are_refused(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message) as refusal:
        AllocatorSettings(state_dir=tmp_path, model_root=tmp_path, **changes)
    assert "blanks in it" not in str(refusal.value)


def test_the_socket_is_free_after_a_stop(tmp_path: Path) -> None:
    with running(AllocatorSettings(state_dir=tmp_path / "state", model_root=tmp_path)) as url:
        port = int(url.rsplit(":", 1)[1])
    socket.create_server(("127.0.0.1", port)).close()
