"""The incentive allocator over HTTP: pushed models, budgets, plans. Each route calls one function of the package."""

from __future__ import annotations

import logging
import sqlite3
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, asynccontextmanager, closing, contextmanager
from pathlib import Path
from typing import Annotated, Any

from fastapi import APIRouter, Depends, FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from filelock import FileLock, Timeout
from starlette.exceptions import HTTPException

from allocator.api import (
    AllocationAnswer,
    AllocationRequest,
    BudgetAnswer,
    BudgetRequest,
    ModelAnswer,
    Name,
    PushRequest,
    error_body,
)
from allocator.auth import Unauthorised, requires
from allocator.database import Database, verify_audit
from allocator.errors import Conflict, NoModel, NotFound, UnknownInput
from allocator.history import History, PushedModel
from allocator.ledger import Budget, Ledger
from allocator.limits import BodyLimit
from allocator.models import ModelStore
from allocator.planning import allocate
from allocator.settings import SCOPES, AllocatorSettings
from features.errors import AllocatorError, AlmMtaError, BudgetExceeded, BundleError

logger = logging.getLogger(__name__)

STATE_LOCK_TIMEOUT_S = 5.0

REFUSALS: dict[type[AlmMtaError], tuple[int, str]] = {
    Conflict: (409, "conflict"),
    BudgetExceeded: (409, "budget_exceeded"),
    NotFound: (404, "not_found"),
    NoModel: (503, "no_model"),
    UnknownInput: (422, "unknown_input"),
    BundleError: (422, "bundle_refused"),
}

Pusher = Annotated[str, Depends(requires("push"))]
Spender = Annotated[str, Depends(requires("allocate"))]
Admin = Annotated[str, Depends(requires("admin"))]
READER = [Depends(requires(*SCOPES))]

router = APIRouter()


class State:
    """What a running service holds: its settings, the database's three views of it, the serving model."""

    def __init__(self, settings: AllocatorSettings, database: Database) -> None:
        self.settings = settings
        self.database = database
        self.ledger = Ledger(database)
        self.models = ModelStore(settings, History(database))


def _state(request: Request) -> State:
    state: State = request.app.state.allocator
    return state


Held = Annotated[State, Depends(_state)]


@router.post("/v1/models", status_code=201)
def push_model(body: PushRequest, actor: Pusher, held: Held, response: Response) -> ModelAnswer:
    model = PushedModel(**body.model_dump(exclude={"uri"}))
    pushed, is_new = held.models.push(model, body.uri, actor=actor)
    response.status_code = 201 if is_new else 200
    return _model_answer(pushed)


@router.get("/v1/models/current", dependencies=READER)
def current_model(held: Held) -> ModelAnswer:
    return _model_answer(held.models.current().pushed)


@router.post("/v1/models/rollback")
def roll_back_model(actor: Admin, held: Held) -> ModelAnswer:
    return _model_answer(held.models.roll_back(actor=actor))


@router.put("/v1/budgets/{name}")
def put_budget(name: Name, body: BudgetRequest, actor: Admin, held: Held) -> BudgetAnswer:
    return _budget_answer(held.ledger.set_budget(name, body.total_units, actor=actor))


@router.get("/v1/budgets/{name}", dependencies=READER)
def get_budget(name: Name, held: Held) -> BudgetAnswer:
    return _budget_answer(held.ledger.budget(name))


@router.post("/v1/allocations")
def post_allocation(body: AllocationRequest, actor: Spender, held: Held) -> AllocationAnswer:
    return allocate(body, models=held.models, ledger=held.ledger, actor=actor)


@router.get("/healthz")
def healthz() -> dict[str, str]:
    return {"status": "alive"}


@router.get("/readyz")
def readyz(held: Held, response: Response) -> dict[str, Any]:
    reasons = []
    try:
        held.models.current()
    except NoModel as error:
        reasons.append(str(error))
    try:
        held.database.check_usable()
    except sqlite3.Error as error:
        reasons.append(f"the ledger cannot be written: {error}")
    response.status_code = 503 if reasons else 200
    return {"ready": not reasons, "reasons": reasons}


@contextmanager
def _locked(state_dir: Path) -> Iterator[None]:
    state_dir.mkdir(parents=True, exist_ok=True)
    lock = FileLock(state_dir / "allocator.lock")
    try:
        lock.acquire(timeout=STATE_LOCK_TIMEOUT_S)
    except Timeout as error:
        raise AllocatorError(f"another allocator runs on {state_dir}: stop it first") from error
    try:
        yield
    finally:
        lock.release()


def create_app(settings: AllocatorSettings) -> FastAPI:
    """The ASGI application. It opens its state when it starts.

    It does not start while another process holds that state, or when the audit trail there is not whole.
    """

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        with ExitStack() as held:
            try:
                held.enter_context(_locked(settings.state_dir))
                database = held.enter_context(closing(Database(settings.state_dir / "ledger.sqlite")))
                verify_audit(database)
                app.state.allocator = State(settings, database)
                app.state.allocator.models.restore()
            except (AlmMtaError, OSError, sqlite3.Error) as error:
                app.state.startup_error = error  # for `serve`: the ASGI protocol carries no reason
                raise
            yield

    app = FastAPI(title="ALM-MTA incentive allocator", lifespan=lifespan, docs_url=None, redoc_url=None)
    app.state.settings = settings
    app.include_router(router)
    app.add_middleware(BodyLimit, max_bytes=settings.max_body_bytes)
    app.add_exception_handler(AlmMtaError, _refused)
    app.add_exception_handler(sqlite3.Error, _ledger_unavailable)
    app.add_exception_handler(Unauthorised, _unauthorised)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(HTTPException, _http_error)
    app.add_exception_handler(Exception, _unexpected)
    return app


def _refused(_: Request, error: Exception) -> JSONResponse:
    status, code = next(
        (answer for kind, answer in REFUSALS.items() if isinstance(error, kind)), (500, "allocator_error")
    )
    logger.log(logging.WARNING if status < 500 else logging.ERROR, "%s: %s", code, error)
    return JSONResponse(error_body(code, str(error)), status)


def _ledger_unavailable(_: Request, error: Exception) -> JSONResponse:
    logger.error("ledger: %s", error)
    return JSONResponse(error_body("ledger_unavailable", f"the ledger cannot be used, nothing was spent: {error}"), 503)


def _unauthorised(_: Request, error: Exception) -> JSONResponse:
    status = error.status if isinstance(error, Unauthorised) else 401
    code = "unauthenticated" if status == 401 else "forbidden"
    headers = {"WWW-Authenticate": "Bearer"} if status == 401 else None
    return JSONResponse(error_body(code, str(error)), status, headers)


def _invalid(_: Request, error: Exception) -> JSONResponse:
    problems = error.errors() if isinstance(error, RequestValidationError) else []
    shown = "; ".join(f"{'.'.join(map(str, problem['loc']))}: {problem['msg']}" for problem in problems[:5])
    more = f"; and {len(problems) - 5} more" if len(problems) > 5 else ""
    return JSONResponse(error_body("invalid_request", shown + more), 422)


def _http_error(_: Request, error: Exception) -> JSONResponse:
    status, detail = (error.status_code, error.detail) if isinstance(error, HTTPException) else (500, str(error))
    code = {404: "not_found", 405: "method_not_allowed", 413: "too_large"}.get(status, "http_error")
    return JSONResponse(error_body(code, str(detail)), status)


def _unexpected(_: Request, __: Exception) -> JSONResponse:
    return JSONResponse(error_body("internal", "the allocator failed; its log says why"), 500)


def _model_answer(pushed: PushedModel) -> ModelAnswer:
    return ModelAnswer.model_validate(pushed, from_attributes=True)


def _budget_answer(budget: Budget) -> BudgetAnswer:
    return BudgetAnswer(
        name=budget.name,
        total_units=budget.total,
        spent_units=budget.spent,
        remaining_units=budget.remaining,
    )
