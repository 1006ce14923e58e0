"""What the allocator refuses, beside the shared tree of `features/errors.py`.

AllocatorError
├── Conflict        the state already holds something else under this key
├── NotFound        no such budget, model or version
├── NoModel         no model is loaded, so nothing may be spent
└── UnknownInput    options or profile columns that the model does not know
"""

from __future__ import annotations

from features.errors import AllocatorError


class Conflict(AllocatorError):
    """The state already holds something else under this key."""


class NotFound(AllocatorError):
    """There is no such budget, model or version."""


class NoModel(AllocatorError):
    """No model is loaded: the allocator fails closed and spends nothing."""


class UnknownInput(AllocatorError):
    """The request names options or profile columns that the loaded model does not know."""
