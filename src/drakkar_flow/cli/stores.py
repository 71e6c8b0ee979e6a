"""The recovery store that a subcommand is about: that of a flow, or a directory."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from drakkar_flow.cli.find import find_flow
from drakkar_flow.cli.options import load_for
from drakkar_flow.errors import Problem, ProblemsError, StartupError

if TYPE_CHECKING:
    from drakkar_flow.config.root import DrakkarConfig
    from drakkar_flow.config.sections.recovery import RecoveryStoreConfig
    from drakkar_flow.graph.flow import StreamFlow
    from drakkar_flow.kernel.store_identity import StoreIdentity
    from drakkar_flow.runtime.recovery.reading import StoreRows

__all__ = [
    "StateReadError",
    "StoreArgument",
    "StorePlace",
    "StoreReadError",
    "key_text",
    "need_flow",
    "place_of",
    "read",
]

StoreArgument = Annotated[
    str, typer.Argument(metavar="STORE", help="A flow, as for `run`, or the directory of a store or of its copy.")
]


class StoreReadError(ProblemsError):
    """Raised when a store can't be read."""

    title = "the recovery store can't be read"


class StateReadError(ProblemsError):
    """Raised when a state topic can't be read."""

    title = "the state can't be read"


@dataclass(frozen=True, slots=True)
class StorePlace:
    """A store's directory; with the flow and its configuration if the command got a flow."""

    directory: Path
    flow: StreamFlow | None = None
    config: DrakkarConfig | None = None

    @property
    def settings(self) -> RecoveryStoreConfig:
        """The settings of the store; the defaults without a flow."""
        from drakkar_flow.config.sections.recovery import RecoveryStoreConfig

        return (self.config.runtime.recovery if self.config is not None else None) or RecoveryStoreConfig()


def place_of(store: str, config: Path | None, assignments: list[str]) -> StorePlace:
    """Return the place of a store."""
    from drakkar_flow.engine.entrypoint import stream_of
    from drakkar_flow.runtime.recovery.directory import directory_of

    if Path(store).is_dir():
        return StorePlace(Path(store))
    found, file = find_flow(store)
    stream = stream_of(found)
    loaded = load_for(found, file, config, assignments).config
    return StorePlace(directory_of(loaded.runtime.recovery, stream.name), stream, loaded)


def read(place: StorePlace) -> tuple[StoreIdentity, StoreRows]:
    """Read the identity and the rows of a store.

    Raises:
        StoreReadError: there is none, or it is damaged.
    """
    from drakkar_flow.runtime.recovery.files import DamagedStore
    from drakkar_flow.runtime.recovery.reading import read_rows
    from drakkar_flow.runtime.recovery.store import read_identity

    try:
        identity = read_identity(place.directory)
        if identity is None:
            remedy = "name a flow that has run with runtime.recovery, or make one: drakkar-flow recovery init FLOW"
            raise StoreReadError([Problem(str(place.directory), "there is no recovery store", remedy)])
        return identity, read_rows(place.directory, identity.flow)
    except DamagedStore as exc:
        remedy = f"list all faults: drakkar-flow recovery check {place.directory}"
        raise StoreReadError([Problem(str(exc.path), str(exc), remedy)]) from None
    except OSError as exc:
        raise StoreReadError([Problem(str(place.directory), f"can't be read: {exc.strerror}")]) from None


def need_flow(place: StorePlace, command: str) -> tuple[StreamFlow, DrakkarConfig]:
    """Return flow and configuration.

    Raises:
        StartupError: the command got a directory.
    """
    if place.flow is None or place.config is None:
        what = f"{command} needs a flow, not a directory"
        raise StartupError([Problem(str(place.directory), what, "name the flow, as for `run`")], exit_code=2)
    return place.flow, place.config


def key_text(key: str) -> Any:
    """Return a stored key as JSON-compatible data: text, or the number or bytes it was made of.

    >>> key_text("anna"), key_text(chr(0) + "i7"), key_text(chr(0) + "bff")
    ('anna', 7, {'bytes': 'ff'})
    """
    from drakkar_flow.model.state import key_of

    return {"bytes": key[2:]} if key.startswith("\0b") else key_of(key)
