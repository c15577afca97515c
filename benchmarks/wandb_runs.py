"""Reads offline W&B runs, each a LevelDB log of protobuf messages."""

import json
import struct
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from wandb.proto import wandb_internal_pb2

# wandb makes it while it is imported, for the protobuf that is installed.
Record: Any = vars(wandb_internal_pb2)["Record"]
HEADER_BYTES, BLOCK_BYTES = 7, 32 * 1024
FULL, LAST = 1, 4
PATIENCE_S = 120


def records(file: Path) -> Iterator[Record]:
    """Yield the records of a `.wandb` file, in order, as far as they are written."""
    data = file.read_bytes()
    assert data[:4] in (b"", b":W&B")
    position, parts = HEADER_BYTES, b""
    while position + 7 <= len(data):
        left_in_block = BLOCK_BYTES - position % BLOCK_BYTES
        if left_in_block < 7:
            position += left_in_block
            continue
        _, size, kind = struct.unpack("<IHB", data[position : position + 7])
        position += 7 + size
        if position > len(data):
            return
        parts += data[position - size : position]
        if kind in (FULL, LAST):
            yield Record.FromString(parts)
            parts = b""


@dataclass
class Tracked:
    """One run: its row in the table of W&B, and the keys of its curves."""

    id: str = ""
    name: str = ""
    group: str = ""
    kind: str = ""
    tags: tuple[str, ...] = ()
    config: dict[str, Any] = field(default_factory=dict)
    summary: dict[str, Any] = field(default_factory=dict)
    history: set[str] = field(default_factory=set)
    models: list[str] = field(default_factory=list)
    exit_code: int | None = None


def runs(directory: Path) -> list[Tracked]:
    """Read all offline runs below a directory, which have ended, in the order of their names."""
    files = directory.glob("**/wandb/offline-run-*/*.wandb")
    return sorted(map(_ended, files), key=lambda run: run.name)


def _ended(file: Path) -> Tracked:
    """Wait for the end of a file: W&B's own process writes it, and may be behind."""
    until = time.monotonic() + PATIENCE_S
    while (found := _run(file)).exit_code is None and time.monotonic() < until:
        time.sleep(0.05)
    return found


def _run(file: Path) -> Tracked:
    found = Tracked()
    for record in records(file):
        if record.WhichOneof("record_type") == "run":
            run = record.run
            found.id, found.name, found.group = run.run_id, run.display_name, run.run_group
            found.kind, found.tags = run.job_type, tuple(run.tags)
            found.config |= items(run.config.update)
        if record.WhichOneof("record_type") == "exit":
            found.exit_code = record.exit.exit_code
        if record.WhichOneof("record_type") == "artifact" and record.artifact.type == "model":
            found.models.append(record.artifact.name)
        found.config |= items(record.config.update)
        found.summary |= items(record.summary.update)
        found.history |= items(record.history.item).keys()
    return found


def items(entries: Any) -> dict[str, Any]:
    """List the key-value pairs of a history, summary or config record."""
    return {(e.key or "/".join(e.nested_key)): json.loads(e.value_json) for e in entries}
