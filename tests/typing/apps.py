"""Ways to run."""

from __future__ import annotations

from pathlib import Path
from typing import assert_type

from drakkar_flow import DrakkarApp, DrakkarConfig, Handler, StreamFlow, StreamingRunner, load_config


def right(handler: Handler[str, str], flow: StreamFlow) -> None:
    """An app or a runner, with a file or a configuration."""
    assert_type(load_config("drakkar.yaml"), DrakkarConfig)
    app = DrakkarApp(handler, Path("drakkar.yaml"), worker_id="w-1")
    assert_type(app.config, DrakkarConfig)
    assert_type(app.config_summary, str)
    DrakkarApp(handler=handler, config=DrakkarConfig()).run()
    assert_type(StreamingRunner.from_yaml(flow, "flow.yaml", own_signals=False, worker_id="w-1").run(), int)


def wrong(handler: Handler[str, str], flow: StreamFlow) -> None:
    """What is missing, misspelt or of another type."""
    DrakkarApp()  # E: call-arg
    DrakkarApp(Handler)  # E: arg-type
    DrakkarApp(flow)  # E: arg-type
    DrakkarApp(handler, 5)  # E: arg-type
    DrakkarApp(handler, config={"kafka": {}})  # E: arg-type
    DrakkarApp(handler, worker_id=5)  # E: arg-type
    DrakkarApp(handler, workers=2)  # E: call-arg
    DrakkarApp(handler).start()  # E: attr-defined
    StreamingRunner(flow)  # E: call-arg
    StreamingRunner(flow, "flow.yaml")  # E: arg-type
    StreamingRunner.from_yaml(flow, "flow.yaml", signals=False)  # E: call-arg
    StreamingRunner.from_dict(flow, {}, own_logging="no")  # E: arg-type
    load_config({"kafka": {}})  # E: arg-type
