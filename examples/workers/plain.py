"""A worker without the helper: JSON lines, one task at a time."""

import json
import sys


def say(**frame: object) -> None:
    """Write a frame and flush it."""
    print(json.dumps(frame), flush=True)


if 1 not in json.loads(sys.stdin.readline())["versions"]:
    say(type="refused", reason="only version 1 is supported")
    sys.exit(1)
say(type="ready", version=1)
for line in sys.stdin:
    frame = json.loads(line)
    if frame["type"] == "task":
        say(id=frame["id"], exit_code=0, stdout=frame.get("stdin", "").upper())
