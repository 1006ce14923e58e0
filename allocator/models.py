"""The model that serves: pulled by exact hash, proven, swapped in by one reference; the one before stays loaded."""

from __future__ import annotations

import logging
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urlsplit

from allocator.bundle import LoadedModel, copy_bundle, load_bundle, read_manifest
from allocator.errors import Conflict, NoModel
from allocator.history import History, PushedModel
from allocator.settings import AllocatorSettings
from features.errors import BundleError

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Serving:
    """A pushed version and its loaded bundle."""

    pushed: PushedModel
    model: LoadedModel


class ModelStore:
    """Pushes are serialised; readers take `current()` once and keep that model for their whole request."""

    def __init__(self, settings: AllocatorSettings, history: History) -> None:
        self._settings = settings
        self._history = history
        self._lock = threading.Lock()
        self._current: Serving | None = None
        self._previous: Serving | None = None
        self.reason = "no model was pushed yet: POST /v1/models"
        """Why no model serves, while none does."""

    def current(self) -> Serving:
        """Raises NoModel."""
        serving = self._current
        if serving is None:
            raise NoModel(self.reason)
        return serving

    def restore(self) -> None:
        """Load the history's active model, after a restart. A damaged copy leaves no model, and `reason` says why."""
        active = self._history.active()
        if active is None:
            return
        try:
            self._current = Serving(active, self._load(active))
        except BundleError as error:
            self.reason = f"{active.label} cannot be loaded from its stored copy: {error}. Push it again or roll back"
            logger.error("%s", self.reason)

    def push(self, model: PushedModel, uri: str, *, actor: str) -> tuple[PushedModel, bool]:
        """Pull, verify, load, record and serve `model`; (what is on record, whether it is new).

        The same version and hash again changes nothing (but repairs an active model whose stored copy was damaged).
        Raises Conflict for another hash of a known version, BundleError for a bundle absent, altered or another.
        """
        with self._lock:
            known = self._history.find(model.name, model.version)
            if known is not None and known.sha256 != model.sha256:
                raise Conflict(f"{model.label} was already pushed with SHA-256 {known.sha256}: push a new version")
            if known is not None and (known.state != "active" or self._current is not None):
                return known, False
            loaded = self._pull(model, uri)
            pushed = known or self._history.activate(model, actor=actor)
            if known is None:
                self._previous = self._current
            self._current = Serving(pushed, loaded)
            logger.info("%s (SHA-256 %s) serves", pushed.label, pushed.sha256)
            return pushed, known is None

    def roll_back(self, *, actor: str) -> PushedModel:
        """Serve the version before the active one. Raises NotFound, or BundleError when its copy is damaged."""
        with self._lock:
            target = self._history.previous()
            kept = self._previous
            same = kept is not None and kept.pushed.label == target.label
            loaded = kept.model if kept is not None and same else self._load(target)
            target = self._history.roll_back(actor=actor)
            self._current, self._previous = Serving(target, loaded), None
            logger.info("rolled back to %s (SHA-256 %s)", target.label, target.sha256)
            return target

    def _folder(self, model: PushedModel) -> Path:
        return self._settings.state_dir / "models" / model.sha256

    def _pull(self, model: PushedModel, uri: str) -> LoadedModel:
        started = time.perf_counter()
        source = resolve_uri(uri, self._settings.model_root)
        manifest = read_manifest(source)
        if manifest.sha256 != model.sha256:
            raise BundleError(f"the bundle at {uri} has SHA-256 {manifest.sha256}, the push names {model.sha256}")
        if manifest.feature_schema_hash != model.feature_schema_hash:
            raise BundleError(
                f"the bundle was trained on feature schema {manifest.feature_schema_hash}, "
                f"the push names {model.feature_schema_hash}"
            )
        copy_bundle(source, self._folder(model), max_bytes=self._settings.max_bundle_bytes)
        loaded = self._load(model)
        logger.info("pulled and proved %s in %.2f s", model.label, time.perf_counter() - started)
        return loaded

    def _load(self, model: PushedModel) -> LoadedModel:
        loaded = load_bundle(self._folder(model))
        if loaded.manifest.sha256 != model.sha256:
            raise BundleError(f"the stored copy has SHA-256 {loaded.manifest.sha256}, the history says {model.sha256}")
        return loaded


def resolve_uri(uri: str, root: Path) -> Path:
    """The folder under `root` that a file:// URI or a path (relative to `root`) names. Raises BundleError."""
    if uri.startswith("file:"):
        parts = urlsplit(uri)
        local, path = parts.netloc in ("", "localhost"), unquote(parts.path)
    else:
        local, path = "://" not in uri, uri
    try:
        folder = (root / path).resolve()
        if local and folder.is_relative_to(root.resolve()) and folder.is_dir():
            return folder
    except (OSError, ValueError):  # not a path that this system can have
        pass
    raise BundleError(f"there is no bundle at {uri} that this allocator may read: it must lie under its model root")
