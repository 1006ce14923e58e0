"""What travels over HTTP: the only pydantic models of the allocator."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, StrictBool, StrictInt, StrictStr, model_validator

MAX_USERS = 10_000
MAX_OPTIONS = 256
MAX_HISTORY = 512
MAX_UNITS = 2**53
"""Integers that every JSON reader keeps exact."""
MAX_COST = 2**40
"""10,000 users of this cost still add up within int64."""

Id = Annotated[StrictInt, Field(ge=-(2**63), lt=2**63)]
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$")]
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
ProfileValue = StrictInt | FiniteFloat | StrictBool | StrictStr | None
Profile = Annotated[dict[str, ProfileValue], Field(max_length=256)]
Units = Annotated[StrictInt, Field(ge=0, le=MAX_UNITS)]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class PushRequest(_Strict):
    """A model version to serve."""

    name: Name
    version: Name
    uri: Annotated[str, Field(min_length=1, max_length=4096)]
    sha256: Sha256
    feature_schema_hash: Sha256
    approval_id: Annotated[str, Field(min_length=1, max_length=256)]


class ModelRef(BaseModel):
    """Which model an answer came from."""

    name: str
    version: str
    sha256: str


class ModelAnswer(ModelRef):
    """A pushed version. `state`: active serves, standby served before, withdrawn was rolled back from."""

    feature_schema_hash: str
    approval_id: str
    pushed_at: str
    state: Literal["active", "standby", "withdrawn"]


class BudgetRequest(_Strict):
    """A budget's new total."""

    total_units: Units


class BudgetAnswer(BaseModel):
    """A budget."""

    name: str
    total_units: int
    spent_units: int
    remaining_units: int


class Touch(_Strict):
    """An item that the user saw, this many hours ago."""

    item_id: Id
    gap_hours: Annotated[FiniteFloat, Field(ge=0, le=1e6)]


class Option(_Strict):
    """An item that the user could be shown, and what that costs."""

    item_id: Id
    cost: Annotated[StrictInt, Field(ge=0, le=MAX_COST)]


class UserRequest(_Strict):
    """A user; without a profile it is imputed and flagged."""

    user_id: Id
    profile: Profile | None = None
    history: Annotated[list[Touch], Field(max_length=MAX_HISTORY)] = []
    options: Annotated[list[Option], Field(min_length=1, max_length=MAX_OPTIONS)]

    @model_validator(mode="after")
    def _one_offer_an_item(self) -> UserRequest:
        if len({option.item_id for option in self.options}) < len(self.options):
            raise ValueError(f"user {self.user_id} has an item twice among the options")
        return self


class AllocationRequest(_Strict):
    """Whom to treat with what. `request_id` is the idempotency key; `units` caps this plan (None = what is left)."""

    request_id: Name
    budget: Name
    units: Units | None = None
    users: Annotated[list[UserRequest], Field(min_length=1, max_length=MAX_USERS)]
    dry_run: bool = False

    @model_validator(mode="after")
    def _each_user_once(self) -> AllocationRequest:
        if len({user.user_id for user in self.users}) < len(self.users):
            raise ValueError("a user_id occurs twice")
        return self


class PlanLine(BaseModel):
    """One granted option; `value` is its removal effect on the upload probability."""

    user_id: int
    item_id: int
    cost: int
    value: float


class AllocationAnswer(BaseModel):
    """The plan, what it spent, and how far from the best possible it can be at most."""

    request_id: str
    plan: list[PlanLine]
    spent: int
    remaining: int
    value: float
    dual_price: float
    bound: float
    gap: float
    model: ModelRef
    dry_run: bool
    replayed: bool


class ErrorDetail(BaseModel):
    """`code` for programs, `message` for people."""

    code: str
    message: str


class ErrorAnswer(BaseModel):
    """The one shape of every refusal."""

    error: ErrorDetail


def error_body(code: str, message: str) -> dict[str, Any]:
    return ErrorAnswer(error=ErrorDetail(code=code, message=message)).model_dump()
