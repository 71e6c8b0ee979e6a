"""One task per record for warm children: `cat` by lines, or a Python worker by frames."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from benchmarks.workers.cat_style import Cat
from benchmarks.workers.model import config
from drakkar_flow import StreamingRunner

CHILDREN = int(os.environ.get("BENCH_SLOTS", "1"))
ECHO = str(Path(__file__).with_name("echo.py"))

FILTER = {
    "binary_path": "/bin/cat",
    "mode": "persistent",
    "persistent": {"protocol": "lines", "children": CHILDREN, "max_in_flight_per_child": 256},
}
WORKER = {
    "binary_path": sys.executable,
    "mode": "persistent",
    "persistent": {"args": [ECHO], "children": CHILDREN, "max_in_flight_per_child": 256},
}

if __name__ == "__main__":
    executor = FILTER if os.environ.get("BENCH_CHILD") == "cat" else WORKER
    raise SystemExit(StreamingRunner.from_dict(Cat(), config(executor=executor)).run())
