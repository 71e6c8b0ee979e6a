"""Mutations: errors put into a copy of the library on purpose. The simulation must find each of them.

`python -m simulation.mutations [NAME ...] [SEEDS=200] [--first]` runs seeds against each mutated copy and lists those
that fail; with `--first` each copy runs until a seed fails.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

import drakkar_flow

__all__ = ["MUTATIONS", "Mutation"]

_SOURCE = Path(drakkar_flow.__file__).parent
_TESTS = Path(__file__).parents[1]


class Mutation(NamedTuple):
    """An error: in `module`, `before` becomes `after`."""

    name: str
    module: str
    before: str
    after: str


MUTATIONS = [
    Mutation(
        "commit one too far",
        "runtime/acknowledgement/tracker.py",
        "Watermark(chain.topic_partition, chain.epoch, chain.finished + 1)",
        "Watermark(chain.topic_partition, chain.epoch, chain.finished + 2)",
    ),
    Mutation(
        "row one too far",
        "runtime/acknowledgement/tracker.py",
        "return chain.finished + 1 if chain is not None and chain.open",
        "return chain.finished + 2 if chain is not None and chain.open",
    ),
    Mutation(
        "no fence before a delivery",
        "runtime/steps/step.py",
        "        if not self._in_flight.has_fences:\n            return items\n        kept",
        "        if items is not None:\n            return items\n        kept",
    ),
    Mutation(
        "no fence before a task",
        "runtime/steps/execute.py",
        "if self._in_flight.has_fences and self._context.is_fenced(run.first_record):",
        "if False:",
    ),
    Mutation(
        "a record finishes before its state is final",
        "runtime/state/gate.py",
        "    final = ledger.finish_all(offsets)\n    if len(final) == len(acks) and not held:",
        "    final = ledger.finish_all(offsets)\n    if final is not None:",
    ),
    Mutation(
        "ledger without order by key",
        "kernel/ledger.py",
        "            record.goes_after(before.record)\n\n    def tie",
        "\n    def tie",
    ),
    Mutation(
        "ledger without the ties of a call",
        "kernel/ledger.py",
        "        if len(records) > 1:\n            for record, before",
        "        if False:\n            for record, before",
    ),
    Mutation(
        "a share is lost in flat_map",
        "runtime/steps/transform.py",
        "    for value, credit in zip(values, split(record.credit, len(values)), strict=True):",
        "    for value, credit in zip(values, split(record.credit, len(values) + 1)):",
    ),
    Mutation(
        "a retry loses its record",
        "runtime/steps/deliver.py",
        "            batch, error = fates.again, fates.error\n",
        "            batch, error = fates.again[: len(fates.again) - (attempt == 2)], fates.error\n",
    ),
    Mutation(
        "a task is retried without its place",
        "runtime/steps/execute.py",
        "        self._parking.delay(pause_s, len(run.in_progress), partial(self._submit, run))",
        "        self._submit(run) if run.retries < 2 else None",
    ),
    Mutation(
        "a delivery is acknowledged twice",
        "runtime/steps/deliver.py",
        "            self.ack(tokens_of(fates.done))\n",
        "            self.ack(tokens_of(fates.done + fates.done[-1:] if len(fates.done) > 2 else fates.done))\n",
    ),
    Mutation(
        "the commit queue takes watermarks of any epoch",
        "runtime/group/commit_queue.py",
        "            if epoch == assignments.get(topic_partition):",
        "            if topic_partition in assignments:",
    ),
    Mutation(
        "the tracker counts an older epoch for the newest",
        "runtime/acknowledgement/tracker.py",
        "        if epoch == newest.epoch:\n            return newest",
        "        if epoch <= newest.epoch:\n            return newest",
    ),
    Mutation(
        "position and state of different instants",
        "runtime/acknowledgement/commit.py",
        "            state = self.ledgers.final(topic_partition) if self.ledgers is not None else StateTables()\n",
        "            self.last, state = self.ledgers.final(topic_partition), getattr(self, 'last', StateTables())\n",
    ),
    Mutation(
        "commits before the row is on disk",
        "runtime/recovery/slots.py",
        "            for settled in self._track.settle(acks):\n",
        "            for settled in self._track.settle(acks):\n"
        "                self._positions.taken({at: Position(epoch, offset, self._track.out_of_order(at, epoch))"
        " for at, epoch, offset in settled.watermarks})\n",
    ),
    Mutation(
        "finished offsets are forgotten when the commit passes them",
        "runtime/group/buffers.py",
        "self.done.cut(min(offset, self.read_offset + 1))",
        "self.done.cut(offset)",
    ),
    Mutation(
        "offsets finished before the start are left out of the row",
        "runtime/recovery/slots.py",
        "            for span in loaded.finished:\n                finished.add(*span)\n",
        "",
    ),
    Mutation(
        "a fenced record finishes as done",
        "runtime/acknowledgement/tracker.py",
        "                self.open = False  # no offset",
        "                pass  # no offset",
    ),
    Mutation(
        "a window returns its credit before its hook",
        "runtime/steps/collect.py",
        "if self._hooks.on_window is None or window.tasks == 0 or (window.finished and window.hooked):",
        "if True:",
    ),
    Mutation(
        "several sinks share the credit unevenly",
        "runtime/steps/route.py",
        "        shares = split(record.credit, len(targets))\n",
        "        shares = [record.credit] * len(targets)\n",
    ),
    Mutation(
        "a dead letter counts before it is written",
        "runtime/steps/deadletter.py",
        "            await self._writer.write(batch)\n",
        "            self._calls.run(self._writer.write(batch), bool)\n",
    ),
    Mutation(
        "a key is not taken",
        "kernel/ordering.py",
        "            if key not in lines:\n                lines[key] = None\n",
        "            if key not in lines or len(lines) > 1:\n                lines[key] = None\n",
    ),
    Mutation(
        "the last commit is not waited for",
        "runtime/group/reader.py",
        "            self._commits.commit_now(consumer, partitions)\n",
        "",
    ),
    Mutation(
        "the state topic is read with uncommitted messages",
        "runtime/state_topic/reading.py",
        '"isolation.level": "read_committed",',
        '"isolation.level": "read_uncommitted",',
    ),
    Mutation(
        "a restore ends at the first open transaction",
        "runtime/state_topic/reading.py",
        "if (message.offset() or 0) >= ends[partition]:",
        "if partition in unread:",
    ),
    Mutation(
        "a tombstone is read as an old value",
        "runtime/state_topic/reading.py",
        "                values[partition].pop(key, None)\n",
        "                pass\n",
    ),
    Mutation(
        "restored state is not loaded",
        "runtime/group/group_state.py",
        "self._track.ledgers.load(restored.at, restored.state, partition.epoch)",
        "self._track.ledgers.load(restored.at, {}, partition.epoch)",
    ),
    Mutation(
        "a restored partition may have left",
        "runtime/state_topic/restore.py",
        "return [each for token, each in found if self._wanted.get(each.at) == token]",
        "return [each for token, each in found]",
    ),
    Mutation(
        "transactions do not name the member",
        "runtime/group/state_committer.py",
        "submit(Transaction(changes, offsets, member))",
        'submit(Transaction(changes, offsets, b""))',
    ),
    Mutation(
        "changes of an aborted transaction are forgotten",
        "runtime/group/state_committer.py",
        "            if leaving is None or leaving.epoch != each.epoch:\n                self._put_back(each)\n",
        "            if leaving is None or leaving.epoch != each.epoch:\n                pass\n",
    ),
    Mutation(
        "changes of an aborted transaction do not join the last ones",
        "runtime/group/state_committer.py",
        "                leaving.values = {**each.values, **leaving.values}\n",
        "                pass\n",
    ),
    Mutation(
        "the last changes are not taken before the fence",
        "runtime/group/reader.py",
        "            before_fence = self._state.committer.before_fence\n",
        "",
    ),
    Mutation(
        "the stored position lacks what is finished beyond it",
        "runtime/group/state_committer.py",
        "            finished=taken.finished,\n",
        "            finished=[],\n",
    ),
    Mutation(
        "offset and position of different instants",
        "runtime/group/state_committer.py",
        "            offset=taken.offset,\n",
        "            offset=max(taken.offset, self._positions.of({taken.at: taken.epoch}).get(taken.at, -1)),\n",
    ),
    Mutation(
        "a failed transaction counts as committed",
        "runtime/state_topic/transactions.py",
        "        return Outcome(text, SEVERITIES.get(cause.name()) is Severity.CONFIGURATION, cause)\n",
        "        return Outcome()\n",
    ),
    Mutation(
        "a hung client is not fenced",
        "runtime/state_topic/transactions.py",
        "            self._client = self._make_client()\n            self._client.start()\n            return",
        "            return",
    ),
]


def run(mutation: Mutation, seeds: int, *options: str) -> str:
    """Return which seeds find a mutation, in one line."""
    with tempfile.TemporaryDirectory() as directory:
        copy = Path(directory) / "drakkar_flow"
        shutil.copytree(_SOURCE, copy, ignore=shutil.ignore_patterns("__pycache__"))
        module = copy / mutation.module
        text = module.read_text()
        if text.count(mutation.before) != 1:
            return f"DOES NOT APPLY  {mutation.name}: {text.count(mutation.before)} places in {mutation.module}"
        module.write_text(text.replace(mutation.before, mutation.after))
        environment = {**os.environ, "PYTHONPATH": f"{directory}:{_TESTS}", "PYTHONDONTWRITEBYTECODE": "1"}
        command = [sys.executable, "-m", "simulation", f"0-{seeds}", "--quiet", *options]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    failed = [line for line in done.stdout.splitlines() if line.startswith("seed ")]
    if not failed:
        return f"NOT FOUND       {mutation.name}: {done.stderr[-300:]}"
    first = failed[0].partition(": ")[2][:110]
    if "--first" in options:
        return f"{failed[0].split()[1].rstrip(':'):>4} finds it    {mutation.name}: {first}"
    numbers = ", ".join(line.split()[1].rstrip(":") for line in failed[:4])
    return f"{len(failed):4} of {seeds}     {mutation.name}: seeds {numbers}, ...: {first}"


def main() -> None:
    """Run all mutations, or those whose name contains a word that is given."""
    words = [each for each in sys.argv[1:] if not each.startswith(("SEEDS=", "--"))]
    options = [each for each in sys.argv[1:] if each.startswith("--")]
    seeds = next((int(each[6:]) for each in sys.argv[1:] if each.startswith("SEEDS=")), 200)
    chosen = [each for each in MUTATIONS if not words or any(word in each.name for word in words)]
    found = True
    for each in chosen:
        result = run(each, seeds, *options)
        print(result, flush=True)
        found &= result.lstrip()[0].isdigit()
    if not found:
        sys.exit(1)


if __name__ == "__main__":
    main()
