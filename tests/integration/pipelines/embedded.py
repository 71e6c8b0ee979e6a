"""A program that runs a flow itself: `embedded.py CONFIG STOP_FILE`; it stops the flow when the file appears."""

import sys
import threading
from pathlib import Path

from precomputed import flow

from drakkar_flow import StreamingRunner


def main(config: str, stop_file: Path) -> int:
    """Run the flow here, on the main thread; the word to stop comes from another."""
    runner = StreamingRunner.from_yaml(flow, config, own_signals=False)
    over = threading.Event()

    def watch() -> None:
        while not over.wait(0.05):
            if stop_file.exists():
                runner.shutdown()
                return

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        return runner.run()
    finally:
        over.set()
        watcher.join()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], Path(sys.argv[2])))
