"""Identity of a recovery store: the flow, group, cluster, topics and state schema that its rows belong to. Pure."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from drakkar_flow.kernel.slots import SLOTS

__all__ = ["FORMAT", "Difference", "IdentityError", "StoreIdentity", "StoredTopic", "decode_identity", "differences"]

FORMAT = 1
"""Version of the format of stores; a store of a later version is refused."""


class IdentityError(ValueError):
    """An identity that can't be read: damaged, or of a later format."""


class StoredTopic(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A topic's id (empty: the brokers have no ids), and the first Bytewax epoch whose rows belong to that id."""

    id: str
    since_epoch: int = 0


class StoreIdentity(msgspec.Struct, frozen=True, kw_only=True):
    """Identity of a store; `schema` maps the id of a step with state to the fingerprint of its model."""

    flow: str
    group: str
    cluster_id: str
    topics: Mapping[str, StoredTopic] = {}
    schema: Mapping[str, str] = {}
    format: int = FORMAT
    slots: int = SLOTS

    def encode(self) -> bytes:
        """Write the identity as indented JSON.

        >>> found = StoreIdentity(flow="count", group="g", cluster_id="c", topics={"in": StoredTopic("t-1")})
        >>> decode_identity(found.encode()) == found
        True
        """
        return msgspec.json.format(msgspec.json.encode(self), indent=2) + b"\n"

    def has_topic(self, topic: str, topic_id: str, epoch: int) -> bool:
        """Return True if a row written in `epoch` belongs to the topic with this id.

        Brokers without topic ids (empty) can't show a difference.
        """
        stored = self.topics.get(topic)
        if stored is None:
            return True
        return epoch >= stored.since_epoch and (not topic_id or not stored.id or topic_id == stored.id)

    def followed_by(self, new: StoreIdentity, epoch: int) -> StoreIdentity:
        """Return the identity after a start at `epoch` with the topics and schema of `new`.

        Rows of a topic with another id are outdated from then on; topics that are not read now are kept.
        """
        topics = dict(self.topics)
        for topic, found in new.topics.items():
            stored = topics.get(topic)
            if stored is None:
                topics[topic] = StoredTopic(found.id)
            elif found.id and stored.id != found.id:
                topics[topic] = StoredTopic(found.id, epoch if stored.id else stored.since_epoch)
        return msgspec.structs.replace(new, topics=topics)


class Difference(msgspec.Struct, frozen=True):
    """One difference between a store and the flow that opens it: the store's value, and the flow's."""

    name: str
    stored: str
    given: str

    def __str__(self) -> str:
        return f"{self.name} {self.stored!r} in the store, {self.given!r} now"


def decode_identity(text: bytes) -> StoreIdentity:
    """Read the text of `StoreIdentity.encode`.

    Raises:
        IdentityError: the text is damaged, or of a later format.
    """
    try:
        version = msgspec.json.decode(text, type=_Version)
        if version.format > FORMAT:
            raise IdentityError(f"a store of format {version.format}; this version reads up to {FORMAT}")
        if version.slots != SLOTS:
            raise IdentityError(f"a store of {version.slots} slots; this version has {SLOTS}")
        return msgspec.json.decode(text, type=StoreIdentity)
    except msgspec.MsgspecError as exc:
        raise IdentityError(f"damaged: {exc}") from exc


def differences(stored: StoreIdentity, given: StoreIdentity) -> list[Difference]:
    """Return the differences that make a store unusable for a flow.

    Topics are compared by partition at the start. New steps with state are compatible; changed and removed ones are
    not. An empty cluster id is unknown and equal to any.

    >>> one = StoreIdentity(flow="a", group="g", cluster_id="c", schema={"count": "int"})
    >>> print(*differences(one, StoreIdentity(flow="b", group="g", cluster_id="")), sep=chr(10))
    flow 'a' in the store, 'b' now
    state of step count 'int' in the store, 'none' now
    """
    fixed = [
        Difference("flow", stored.flow, given.flow),
        Difference("consumer group", stored.group, given.group),
        Difference("Kafka cluster", stored.cluster_id, given.cluster_id or stored.cluster_id),
    ]
    schema = [
        Difference(f"state of step {step}", model, given.schema.get(step, "none"))
        for step, model in sorted(stored.schema.items())
    ]
    return [each for each in (*fixed, *schema) if each.stored and each.stored != each.given]


class _Version(msgspec.Struct):
    format: int
    slots: int
