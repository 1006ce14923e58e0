"""`alm-mta serve | push | allocate | rollback`: the incentive allocator and what talks to it.

Tokens come from ALM_MTA_TOKEN_PUSH, ALM_MTA_TOKEN_ALLOCATE and ALM_MTA_TOKEN_ADMIN, never from the command line.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from jsonargparse import ArgumentParser

from features.errors import ConfigError, PushRefused
from pipelines.cli_parser import parser_for


def serve(arguments: list[str]) -> int:
    """The service."""
    parser = parser_for("serve", "Run the incentive allocator until it is told to stop.")
    parser.add_argument("--state-dir", type=Path, required=True, help="folder of ledger and pulled models")
    parser.add_argument("--model-root", type=Path, required=True, help="only bundles under this folder are loaded")
    parser.add_argument("--host", type=str, default="127.0.0.1", help="address to bind")
    parser.add_argument("--port", type=int, default=8080, help="port, 0 = a free one")
    options = parser.parse_args(arguments)

    from allocator.serve import serve as run_service
    from allocator.settings import AllocatorSettings

    settings = AllocatorSettings.from_environment(state_dir=options.state_dir, model_root=options.model_root)
    run_service(settings, options.host, options.port)
    return 0


def push(arguments: list[str]) -> int:
    """Have a bundle served; a version that is on record but does not serve is a failure."""
    parser = _client_parser("push", "Have an allocator pull, prove and serve a model bundle.")
    parser.add_argument("--bundle", type=Path, required=True, help="folder of the bundle, under the model root")
    parser.add_argument("--model-root", type=Path, required=True, help="folder that the allocator reads, as seen here")
    parser.add_argument("--name", type=str, required=True, help="registered model's name")
    parser.add_argument("--version", type=str, required=True, help="its version")
    parser.add_argument("--approval-id", type=str, required=True, help="who or what approved it")
    options = parser.parse_args(arguments)

    from allocator import client
    from allocator.settings import token_from_environment
    from features.files import read_json, sha256_file

    bundle, root = options.bundle.resolve(), options.model_root.resolve()
    if not (bundle.is_relative_to(root) and (bundle / "manifest.json").is_file()):
        raise ConfigError(f"--bundle {bundle}: no manifest.json there, or not under --model-root {root}")
    answer = client.push(
        options.url,
        token=token_from_environment("push"),
        name=options.name,
        version=options.version,
        uri=bundle.relative_to(root).as_posix(),
        sha256=sha256_file(bundle / "manifest.json"),
        feature_schema_hash=read_json(bundle / "manifest.json")["feature_schema_hash"],
        approval_id=options.approval_id,
    )
    _print(answer)
    if answer["state"] == "active":
        return 0
    raise PushRefused(
        f"model '{options.name}' version '{options.version}' does not serve: it was pushed before and is "
        f"{answer['state']} now; push it under a new version"
    )


def allocate(arguments: list[str]) -> int:
    """Ask for a plan."""
    parser = _client_parser("allocate", "Ask an allocator for a plan and spend it.")
    parser.add_argument(
        "--request", type=Path, required=True, help="JSON of POST /v1/allocations: request_id, budget, users, units?"
    )
    parser.add_argument("--dry-run", action="store_true", help="plan, but spend nothing")
    options = parser.parse_args(arguments)

    from allocator import client
    from allocator.settings import token_from_environment

    request = _request(options.request)
    plan = client.allocate(
        options.url,
        token=token_from_environment("allocate"),
        request_id=request["request_id"],
        budget=request["budget"],
        users=request["users"],
        units=request.get("units"),
        dry_run=options.dry_run,
    )
    return _print(plan)


def rollback(arguments: list[str]) -> int:
    """Serve the version before."""
    options = _client_parser("rollback", "Have an allocator serve the version before.").parse_args(arguments)

    from allocator import client
    from allocator.settings import token_from_environment

    return _print(client.roll_back(options.url, token=token_from_environment("admin")))


def _client_parser(command: str, description: str) -> ArgumentParser:
    parser = parser_for(command, description)
    parser.add_argument("--url", type=str, required=True, help="the allocator, as http://HOST:PORT")
    return parser


def _request(path: Path) -> dict[str, Any]:
    try:
        request = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise ConfigError(f"--request {path}: {error}") from error
    lacking = [key for key in ("request_id", "budget", "users") if not isinstance(request, dict) or key not in request]
    if lacking:
        raise ConfigError(f"--request {path}: lacks {', '.join(lacking)}")
    return dict(request)


def _print(answer: dict[str, Any]) -> int:
    sys.stdout.write(json.dumps(answer, indent=2) + "\n")
    return 0
