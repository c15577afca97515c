"""Writing files so that a crash leaves the old content or the new, never half of it."""

import json
import math
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TypeAlias

from eenn.errors import EennError

# What JSON can hold.
Json: TypeAlias = "Mapping[str, Json] | Sequence[Json] | str | float | int | bool | None"


def write_file(path: Path, content: str | bytes) -> None:
    """Write `content` to `path` through a temporary name in the same directory."""
    data = content.encode() if isinstance(content, str) else content
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(name, 0o666 & ~_umask())
        os.replace(name, path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def write_json(path: Path, value: Json) -> None:
    """Write a value as JSON, which has no NaN: numbers that are none become null."""
    write_file(path, json.dumps(_without_nan(value), indent=1))


@contextmanager
def new_directory(path: Path) -> Iterator[Path]:
    """Yield a temporary directory that becomes `path` when the block ends without an error.

    Raises:
        EennError: `path` exists already, or its parent cannot be written.
    """
    if path.exists():
        raise EennError(
            f"{path} exists already and is never overwritten; move it or choose another"
        )
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(dir=path.parent, prefix=f".{path.name}."))
    except OSError as error:
        raise EennError(f"cannot write to {path.parent}: {error.strerror}") from error
    try:
        yield temporary
        temporary.chmod(0o777 & ~_umask())
        temporary.rename(path)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise


def _without_nan(value: Json) -> Json:
    if isinstance(value, Mapping):
        return {key: _without_nan(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_without_nan(item) for item in value]
    return None if isinstance(value, float) and math.isnan(value) else value


def _umask() -> int:
    # The only portable way to read the mask is to set it.
    mask = os.umask(0)
    os.umask(mask)
    return mask
