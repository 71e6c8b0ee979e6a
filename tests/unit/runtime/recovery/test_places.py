"""Locks of the processes of a cluster on one store."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path

import pytest

from drakkar_flow.errors import StartupError
from drakkar_flow.runtime.recovery.directory import Place, StoreInUse, check_shared, locked


def test_each_process_of_a_cluster_has_its_lock(tmp_path: Path) -> None:
    """The first one comes first."""
    with ExitStack() as held:
        for process in range(3):
            held.enter_context(locked(tmp_path, Place(process, 3)))
        with pytest.raises(StoreInUse, match="is used by process"), locked(tmp_path, Place(1, 3)):
            pass


@pytest.mark.parametrize(("running", "new"), [(Place(2, 3), Place(1, 2)), (Place(1, 2), Place(0, 1))])
def test_a_process_of_a_larger_cluster_keeps_a_smaller_one_out(tmp_path: Path, running: Place, new: Place) -> None:
    """Also a single process; when it has ended they may start."""
    with locked(tmp_path, running), pytest.raises(StoreInUse), locked(tmp_path, new):
        pass
    with locked(tmp_path, new):
        pass


def test_the_first_process_waits_for_no_rest_of_an_earlier_cluster(tmp_path: Path) -> None:
    """It may move the store aside, so no other may use it."""
    with locked(tmp_path, Place(1, 2)), pytest.raises(StoreInUse), locked(tmp_path, Place(0, 2)):
        pass


def test_all_processes_use_the_same_directory(tmp_path: Path) -> None:
    """Process 0 holds its lock there; it does not on another host."""
    with pytest.raises(StartupError, match="give all processes of the cluster the same directory, on one host"):
        check_shared(tmp_path)
    with locked(tmp_path, Place(0, 2)):
        check_shared(tmp_path)
