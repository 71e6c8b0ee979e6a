"""Run of a dataflow in Bytewax until it ends, and the exit code."""

from __future__ import annotations

import os
import sys
import threading
from contextlib import suppress
from typing import Any, Never

from bytewax.dataflow import Dataflow
from bytewax.run import cli_main

from drakkar_flow.engine.worker_process import EXIT_FAILED, WorkerProcess

__all__ = ["run_engine"]

_SLICE_S = 0.2  # the main thread wakes up as often to handle signals


def run_engine(life: WorkerProcess, dataflow: Dataflow) -> int:
    """Run the dataflow of a started worker, close the worker, and return its exit code.

    If the engine fails in a process of a cluster, the process ends here: threads of Bytewax outlive its call, and the
    end of Python would abort them and the process.
    """
    options: dict[str, Any] = {}
    try:
        options = life.engine_options()
        if "addresses" in options:
            _run_beside(dataflow, options)
        else:
            cli_main(dataflow, **options)  # type: ignore[no-untyped-call]
        life.stored()
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException as exc:  # an error or a Rust panic of Bytewax itself
        life.engine_failed(exc)
        if "addresses" in options:
            life.close()
            _end()
        return EXIT_FAILED
    finally:
        life.close()
    return life.exit_code


def _end() -> Never:
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError, AttributeError):  # closed, or there is none
            stream.flush()
    os._exit(EXIT_FAILED)


def _run_beside(dataflow: Dataflow, options: dict[str, Any]) -> None:
    """Run a process of a cluster on another thread: while it connects to the others, Bytewax handles no signals."""
    raised: list[BaseException] = []

    def run() -> None:
        try:
            cli_main(dataflow, **options)  # type: ignore[no-untyped-call]
        except BaseException as exc:  # a Rust panic is no Exception
            raised.append(exc)

    thread = threading.Thread(target=run, name="drakkar-engine", daemon=True)
    thread.start()
    while thread.is_alive():  # in slices: a signal that another thread gets does not wake the main thread
        thread.join(_SLICE_S)
    if raised:
        raise raised[0]
