"""Reads the records of an offline W&B run, a LevelDB log of protobuf messages."""

import json
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from wandb.proto.wandb_internal_pb2 import Record

HEADER_BYTES, BLOCK_BYTES = 7, 32 * 1024
FULL, LAST = 1, 4


def records(file: Path) -> Iterator[Record]:
    """Every record of a `.wandb` file, in order."""
    data = file.read_bytes()
    assert data[:4] == b":W&B"
    position, parts = HEADER_BYTES, b""
    while position + 7 <= len(data):
        left_in_block = BLOCK_BYTES - position % BLOCK_BYTES
        if left_in_block < 7:
            position += left_in_block
            continue
        _, size, kind = struct.unpack("<IHB", data[position : position + 7])
        parts += data[position + 7 : position + 7 + size]
        position += 7 + size
        if kind in (FULL, LAST):
            yield Record.FromString(parts)
            parts = b""


def items(entries: Any) -> dict[str, Any]:
    """The key-value pairs of a history, summary or config record."""
    return {(e.key or "/".join(e.nested_key)): json.loads(e.value_json) for e in entries}
