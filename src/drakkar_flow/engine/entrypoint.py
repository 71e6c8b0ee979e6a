"""Entry point for Bytewax's runner: `flow = dataflow(stream)` makes `python -m bytewax.run flows.pipeline` work.

The runner of Bytewax takes a `Dataflow` or a function that returns one. The function made here reads the
configuration and starts the components when it is called. Signals, drain and exit work as in `drakkar-flow run`.
"""

from __future__ import annotations

import atexit
import inspect
import os
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from bytewax.dataflow import Dataflow

from drakkar_flow.config.loading.find import find_config
from drakkar_flow.config.loading.load import AppOptions, load
from drakkar_flow.engine.runner_arguments import runner_arguments, with_arguments
from drakkar_flow.engine.worker_process import EXIT_CLEAN, EXIT_FAILED, StoppedEarly, WorkerProcess
from drakkar_flow.errors import ProblemsError
from drakkar_flow.graph.flow import StreamFlow
from drakkar_flow.graph.handler import BaseDrakkarHandler
from drakkar_flow.kinds.executor import ExecutorSpec
from drakkar_flow.kinds.registry import EXECUTORS, SINKS
from drakkar_flow.kinds.sink import SinkSpec
from drakkar_flow.observe.listeners import Listener
from drakkar_flow.runtime.failures import describe, root_cause

__all__ = ["app_options", "dataflow", "is_flow", "listeners_of", "stream_of"]

_STREAM = "__drakkar_stream__"
_LISTENERS = "__drakkar_listeners__"


def dataflow(
    flow: Any,
    *,
    sinks: Sequence[SinkSpec] = (),
    executors: Sequence[ExecutorSpec] = (),
    listeners: Sequence[Listener] = (),
) -> Callable[[], Dataflow]:
    """Wrap a flow or a handler for `python -m bytewax.run`.

    The configuration file is the first that exists: the value of DRAKKAR_CONFIG, the file beside the flow's file with
    the same name and the ending `.yaml` or `.yml`, `drakkar.yaml` there or in the working directory. Without one,
    defaults and environment apply. Bytewax's `-r DIR` sets `runtime.recovery.dir`, `-s` its `snapshot_interval_s` and
    `-b` its `backup_interval_s`. `sinks` and `executors` are the specs of user-defined kinds
    (`drakkar_flow.plugins`), `listeners` receive the events of the run (`drakkar_flow.events`).

    >>> flow = dataflow(StreamFlow("scan").route())
    >>> stream_of(flow).name
    'scan'
    """
    SINKS.add(*sinks)
    EXECUTORS.add(*executors)
    stream = stream_of(flow)
    caller = sys._getframe(1).f_globals.get("__file__")  # noqa: SLF001 - the flow's own file
    file = Path(caller) if caller else None

    def compiled() -> Dataflow:
        arguments = runner_arguments()
        try:
            config = load(find_config(None, os.environ, file), **app_options(stream)).config
            config = with_arguments(config, arguments)
            life = WorkerProcess(stream, config, own_logging=True, own_signals=True, listeners=listeners)
            started = life.start()
            if life.config.runtime.recovery is not None:
                arguments |= life.engine_options()
        except ProblemsError as exc:
            print(exc, file=sys.stderr)
            raise SystemExit(exc.exit_code) from None
        except StoppedEarly:
            raise SystemExit(EXIT_CLEAN) from None
        atexit.register(_at_exit, life)
        sys.excepthook = partial(_engine_raised, life, sys.excepthook)
        return started

    setattr(compiled, _STREAM, stream)
    setattr(compiled, _LISTENERS, tuple(listeners))
    return compiled


def listeners_of(flow: Any) -> tuple[Listener, ...]:
    """Return the listeners that `dataflow` got."""
    return getattr(flow, _LISTENERS, ())


def is_flow(value: object) -> bool:
    """Return True if `stream_of` accepts the value."""
    wrapped = inspect.isfunction(value) and hasattr(value, _STREAM)
    return wrapped or isinstance(value, StreamFlow | BaseDrakkarHandler)


def stream_of(flow: Any) -> StreamFlow:
    """Return the StreamFlow of a StreamFlow, a handler, or a result of `dataflow`.

    Raises:
        FlowError: `flow` is none of these.
    """
    if isinstance(flow, StreamFlow):
        return flow
    if inspect.isfunction(flow) and hasattr(flow, _STREAM):
        stream: StreamFlow = getattr(flow, _STREAM)
        return stream
    return StreamFlow.from_handler(flow)


def app_options(flow: Any) -> AppOptions:
    """Return the types of the `app` section in a flow's configuration; accepts a handler or its class."""
    handler = flow if isinstance(flow, type) and issubclass(flow, BaseDrakkarHandler) else stream_of(flow).hooks.owner
    if handler is None:
        return AppOptions()
    return AppOptions(app_model=handler.app_config_model, app_env_prefix=handler.app_env_prefix)


def _engine_raised(life: WorkerProcess, otherwise: Any, kind: Any, error: Any, trace: Any) -> None:
    """Print an error that ends Bytewax's runner as one line, without its traceback."""
    if isinstance(error, KeyboardInterrupt):
        otherwise(kind, error, trace)
    else:
        life.engine_failed(error)
        reason = life.config.redactor(describe(root_cause(error)))
        print(f"drakkar-flow: the engine failed: {reason}", file=sys.stderr)


def _at_exit(life: WorkerProcess) -> None:
    life.stored()
    life.close()
    if life.failure:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(EXIT_FAILED)
