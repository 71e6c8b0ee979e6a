"""Recovery store of a flow: created on first use, locked, identified and checked before Bytewax opens it.

Bytewax ends the process by a panic if a file is missing, damaged or foreign; every such store is an error here first.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import timedelta
from pathlib import Path

from bytewax.recovery import RecoveryConfig, init_db_dir

from drakkar_flow._files import sync_directory, write_durably
from drakkar_flow.config.sections.recovery import RecoveryStoreConfig
from drakkar_flow.errors import Problem, StartupError
from drakkar_flow.kernel.store_identity import IdentityError, StoreIdentity, decode_identity, differences
from drakkar_flow.runtime.recovery.directory import (
    KEY,
    SINGLE,
    Place,
    check_shared,
    locked,
    moved_aside,
)
from drakkar_flow.runtime.recovery.files import (
    DamagedStore,
    part_files,
    progress_of,
    quick_check,
    read_part,
)
from drakkar_flow.runtime.recovery.reading import StoreRows, read_rows
from drakkar_flow.storage.directory import network_filesystem

__all__ = ["IDENTITY", "Store", "check_files", "open_store", "read_identity"]

IDENTITY = "identity.json"
_PROBE_SIZE = 1 << 20  # bytes that a start must be able to write
_RESET = "restore it from a backup, or start with a new store: drakkar-flow recovery reset"


class Store:
    """An open store: locked, checked, and of the flow that opened it.

    - `config`: pass it to Bytewax.
    - `found`: the rows that Bytewax will resume with.
    - `lost`: True if files that existed are gone.
    - `notices`: texts for the log.
    """

    def __init__(
        self, directory: Path, settings: RecoveryStoreConfig, stored: StoreIdentity | None, given: StoreIdentity
    ) -> None:
        self.directory = directory
        kept = timedelta(seconds=settings.backup_interval_s)
        self.config = RecoveryConfig(directory, kept)  # type: ignore[no-untyped-call]
        self.found: StoreRows = read_rows(directory, given.flow)
        self.lost = False
        self.notices: list[str] = []
        self._stored = stored
        self._given = given

    @property
    def first_start(self) -> bool:
        """True if no flow has run with the store."""
        return self.found.progress.execution == 0

    def is_same_topic(self, topic: str, epoch: int) -> bool:
        """Return True if a row written in `epoch` belongs to the topic that exists now."""
        if self._stored is None or topic not in self._given.topics:
            return True
        return self._stored.has_topic(topic, self._given.topics[topic].id, epoch)

    def fault(self) -> str:
        """Return why the directory can't be written now; an empty text if it can."""
        try:
            _probe(self.directory)
        except OSError as exc:
            return exc.strerror or str(exc)
        return ""

    def accept(self) -> None:
        """Write the identity of this start: call it when every partition has a start, before Bytewax runs.

        Rows of a topic that was created again are outdated from now on.

        Raises:
            StartupError: the directory can't be written.
        """
        identity = self._given
        if self._stored is not None:
            identity = self._stored.followed_by(self._given, self.found.progress.epoch)
        if identity != self._stored:
            with _clear_errors(self.directory):
                write_durably(self.directory / IDENTITY, identity.encode())
            self._stored = identity


@contextmanager
def open_store(
    directory: Path, identity: StoreIdentity, settings: RecoveryStoreConfig, place: Place = SINGLE
) -> Iterator[Store]:
    """Open the store of a flow, and create it on first use; the lock is held until the context ends.

    Raises:
        StartupError: the store is in use, foreign, lost, damaged or of a later format; the directory is not writable,
            full, or on a network filesystem. The problem has the fix.
    """
    with _clear_errors(directory):
        directory.mkdir(parents=True, exist_ok=True)
    if kind := network_filesystem(directory):
        what = f"{directory} is on a network filesystem ({kind}), which SQLite's WAL mode does not support"
        raise StartupError([Problem(KEY, what, "set a directory on a local disk")], exit_code=2)
    with ExitStack() as held:
        with _clear_errors(directory):
            held.enter_context(locked(directory, place))
            if place.process:
                check_shared(directory)
            _probe(directory)
            notice = _move_incompatible(directory, identity, settings)
            store = None if notice else _opened(directory, identity, settings)
        if store is not None:
            yield store
            return
    with open_store(directory, identity, settings, place) as store:
        store.notices.append(notice)
        yield store


def read_identity(directory: Path) -> StoreIdentity | None:
    """Return the identity of a store; None if there is none.

    Raises:
        DamagedStore: it is damaged, or of a later format.
    """
    path = directory / IDENTITY
    try:
        return decode_identity(path.read_bytes())
    except FileNotFoundError:
        return None
    except IdentityError as exc:
        raise DamagedStore(path, str(exc)) from exc


def check_files(directory: Path) -> None:
    """Check each file by itself, and that they belong together.

    Raises:
        DamagedStore: a file is damaged, missing, foreign or too old.
    """
    paths = part_files(directory)
    for path in paths:
        quick_check(path)
    progress_of(directory, [read_part(path) for path in paths])


def _move_incompatible(directory: Path, identity: StoreIdentity, settings: RecoveryStoreConfig) -> str:
    """Move the store of another flow aside if the settings allow it; returns a notice then."""
    try:
        stored = read_identity(directory)
    except DamagedStore as exc:
        raise StartupError([_damaged(exc)], exit_code=2) from None
    found = differences(stored, identity) if stored is not None else []
    if not found:
        return ""
    texts = "; ".join(map(str, found))
    if settings.on_incompatible == "reset":
        aside = moved_aside(directory)
        return f"the store {directory} was made with another {texts}; it is now {aside}, and a new one is used"
    remedy = (
        "set another directory; or start with a new store: drakkar-flow recovery reset, or once with "
        "runtime.recovery.on_incompatible: reset. If the group has commits and the flow has state, set on_lost too"
    )
    raise StartupError([Problem(KEY, f"the store {directory} was made with another {texts}", remedy)], exit_code=2)


def _opened(directory: Path, identity: StoreIdentity, settings: RecoveryStoreConfig) -> Store:
    try:
        stored = read_identity(directory)
        lost = stored is not None and not part_files(directory)
        if lost and stored is not None:
            _check_loss(directory, stored, identity, settings)
            (directory / IDENTITY).unlink()  # epochs begin again, so those of its topics mean nothing
            stored = None
        if stored is None:
            _create(directory, settings.partitions)
        else:
            check_files(directory)
        store = Store(directory, settings, stored, identity)
    except DamagedStore as exc:
        raise StartupError([_damaged(exc)]) from None
    if lost:
        store.lost = True
        store.notices.append(f"the files of the store {directory} are lost; new ones are used")
    if stored is None:
        store.accept()
    return store


def _check_loss(directory: Path, stored: StoreIdentity, given: StoreIdentity, settings: RecoveryStoreConfig) -> None:
    if (stored.schema or given.schema) and settings.on_lost == "fail":
        remedy = (
            "restore them from a backup; or start once with runtime.recovery.on_lost: commits (empty state from the "
            "committed offsets) or earliest (state is computed again, deliveries repeat)"
        )
        raise StartupError([Problem(KEY, f"the files of the store {directory} are lost, and its state", remedy)])


def _create(directory: Path, partitions: int) -> None:
    """Create the partition files; complete empty ones, made by `python -m bytewax.recovery`, are adopted.

    Raises:
        DamagedStore: there are files that a flow has run with, but no identity.
    """
    paths = part_files(directory)
    parts = [read_part(path) for path in paths if path.stat().st_size]
    if used := next((part for part in parts if part.executions), None):
        raise DamagedStore(used.path, f"was used by a dataflow, but {IDENTITY} is missing beside it")
    if parts and len(parts) == len(paths):
        try:
            progress_of(directory, parts)
        except DamagedStore:
            pass  # the remains of an interrupted start: empty, so they are made again
        else:
            return
    for path in directory.glob("*.sqlite3*"):
        path.unlink()
    init_db_dir(directory, partitions)  # type: ignore[no-untyped-call]
    sync_directory(directory)


def _probe(directory: Path) -> None:
    """Write and remove a file, so that a full or read-only disk is reported now."""
    path = directory / "probe.new"
    try:
        with path.open("wb") as file:
            file.write(bytes(_PROBE_SIZE))
            file.flush()
            os.fsync(file.fileno())
    finally:
        path.unlink(missing_ok=True)


def _damaged(error: DamagedStore) -> Problem:
    return Problem(KEY, f"{error.path} {error}", _RESET)


@contextmanager
def _clear_errors(directory: Path) -> Iterator[None]:
    """Report an error of the file system as a problem of the directory."""
    try:
        yield
    except OSError as exc:
        where = exc.filename or directory
        full = exc.errno in (errno.ENOSPC, errno.EDQUOT)
        remedy = "free some space" if full else "set a directory on a local disk that this user can write"
        raise StartupError([Problem(KEY, f"{where} can't be written: {exc.strerror}", remedy)]) from exc
