"""The identity of a recovery store: which flow it belongs to, and which rows belong to a topic of today."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from drakkar_flow.kernel.store_identity import StoredTopic, StoreIdentity, decode_identity

texts = st.text(max_size=8)
topics = st.dictionaries(texts, st.builds(StoredTopic, texts, st.integers(0, 9)), max_size=4)
identities = st.builds(
    StoreIdentity,
    flow=texts,
    group=texts,
    cluster_id=texts,
    topics=topics,
    schema=st.dictionaries(texts, texts, max_size=3),
)


@given(identities)
def test_an_identity_reads_as_it_was_written(found: StoreIdentity) -> None:
    """Byte by byte."""
    assert decode_identity(found.encode()) == found


def test_unknown_keys_of_the_same_format_are_ignored() -> None:
    """So that a later version can add some."""
    text = StoreIdentity(flow="a", group="g", cluster_id="c").encode().replace(b"{", b'{"more": 1,', 1)
    assert decode_identity(text).flow == "a"


@given(identities, st.dictionaries(texts, texts, max_size=4), st.integers(1, 99))
def test_rows_of_another_topic_id_are_outdated_until_they_are_written_again(
    stored: StoreIdentity, ids: dict[str, str], epoch: int
) -> None:
    """Kept topics keep their rows, topics not read now stay known, unknown ids change nothing."""
    new = StoreIdentity(
        flow="f", group="g", cluster_id="c", topics={topic: StoredTopic(each) for topic, each in ids.items()}
    )
    after = stored.followed_by(new, epoch)
    assert (after.flow, set(after.topics)) == ("f", {*stored.topics, *ids})
    for topic, found in after.topics.items():
        before = stored.topics.get(topic)
        given = ids.get(topic, "")
        assert after.has_topic(topic, given, 100)
        if before is not None and (not given or before.id in ("", given)):
            assert found.since_epoch == before.since_epoch
        elif before is not None:
            assert not stored.has_topic(topic, given, 100)
            assert not after.has_topic(topic, given, epoch - 1)
            assert after.has_topic(topic, given, epoch)
