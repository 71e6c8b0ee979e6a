"""A drill with state across partitions: the shards of all processes have the counts, and no partition has any."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

from chaos.drill import Drill, Rows
from chaos.truths import ACROSS, Sents, numbers_of
from drakkar_flow.runtime.recovery.reading import StoredShard, read_rows
from support.scene import Scene

__all__ = ["AcrossDrill"]


class AcrossDrill(Drill):
    """A cluster, or one process, that counts by keys of all partitions."""

    def __init__(self, scene: Scene) -> None:
        super().__init__(scene, truth=ACROSS)
        self._shards: Mapping[str, StoredShard] = {}

    def rows(self) -> Rows:
        """The rows on disk, those of shards beside them."""
        if not (self.store / "identity.json").exists():
            return {}
        found = read_rows(self.store, self.truth.name)
        self._shards = found.shards
        return {at: stored.row for at, stored in found.rows.items()}

    def check_whole(self, finished: list[Sents]) -> None:
        """Rows of shards and of positions are of one instant: the counts are those of exactly the finished records."""
        found: Counter[bytes | str | int] = Counter()
        for shard in self._shards.values():
            found += numbers_of(shard.state, "stateful-count")
        assert found == ACROSS.counts(finished)
