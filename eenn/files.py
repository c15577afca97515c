"""Files that a crash leaves with the old content or the new, never half of it; typed JSON."""

import json
import math
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import MISSING, fields, is_dataclass
from functools import cache
from pathlib import Path
from types import UnionType
from typing import TypeAlias, TypeVar, cast, get_args, get_origin, get_type_hints

from eenn.errors import EennError

Json: TypeAlias = "Mapping[str, Json] | Sequence[Json] | str | float | int | bool | None"
JsonObject: TypeAlias = Mapping[str, Json]
T = TypeVar("T")


def write_file(path: Path, content: str | bytes) -> None:
    """Write `content` to `path` through a temporary name in the same directory.

    Raises:
        OSError: the file cannot be written, for example on a full disk; `path` keeps its old
            content.
    """
    data = content.encode() if isinstance(content, str) else content
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(name, 0o666 & ~_umask())
        os.replace(name, path)
    except BaseException as error:
        Path(name).unlink(missing_ok=True)
        if isinstance(error, OSError) and error.errno is not None:
            # The error of a write names no file, so a user could not know which disk is full.
            error.filename = str(path)
        raise


def write_json(path: Path, value: Json) -> None:
    """Write a value as JSON; NaN, which JSON does not have, becomes null."""
    write_file(path, json.dumps(_without_nan(value), indent=1))


def read_small_json(path: Path, max_bytes: int) -> Json:
    """Read a JSON file that may come from a stranger.

    Raises:
        ValueError: the file is larger, nested too deep, or not JSON.
        OSError: the file cannot be read.
    """
    if path.stat().st_size > max_bytes:
        raise ValueError(f"it has more than {max_bytes} bytes")
    try:
        content: Json = json.loads(path.read_bytes())
    except RecursionError as error:
        raise ValueError("it is nested too deep") from error
    return content


def from_json(kind: type[T], value: Json) -> T:
    """Convert a JSON value to `kind`, the inverse of `dataclasses.asdict` with lists for tuples.

    Keys that a dataclass does not have are ignored. Whole numbers stay int where `kind` is `float`.

    Args:
        kind: a dataclass, `str`, `bool`, `int`, `float`, `tuple[...]` or `dict[str, ...]`; inside
            them also `... | None`.

    Raises:
        ValueError: the value is of another kind, or a key is missing; the message names the place.
    """
    return cast(T, _read(kind, value, kind.__name__))


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


def _read(kind: object, value: Json, name: str) -> object:
    origin, inner = get_origin(kind), get_args(kind)
    if origin is UnionType:
        return None if value is None else _read(inner[0], value, name)
    if isinstance(kind, type) and is_dataclass(kind) and isinstance(value, Mapping):
        hints, required = _members(kind)
        if missing := required - value.keys():
            raise ValueError(f"{name} has no {', '.join(sorted(missing))}")
        given = [key for key in hints if key in value]
        return kind(**{key: _read(hints[key], value[key], f"{name}.{key}") for key in given})
    if origin is dict and isinstance(value, Mapping):
        return {key: _read(inner[1], item, f"{name}.{key}") for key, item in value.items()}
    if origin is tuple and isinstance(value, list | tuple):
        kinds = len(value) * inner[:1] if inner[-1] is ... else inner
        if len(kinds) == len(value):
            numbered = enumerate(zip(kinds, value, strict=True))
            return tuple(_read(part, item, f"{name}[{n}]") for n, (part, item) in numbered)
    # In Python True is an int and an int is not a float; in JSON it is the other way round.
    if type(value) is kind or (kind is float and type(value) is int):
        return value
    raise ValueError(f"{name} is {value!r:.60}; allowed is {getattr(kind, '__name__', kind)}")


@cache
def _members(kind: type) -> tuple[dict[str, object], frozenset[str]]:
    """List the types of a dataclass's fields, and those fields that have no default."""
    hints = get_type_hints(kind)
    own = {f.name: f.default is MISSING and f.default_factory is MISSING for f in fields(kind)}
    return (
        {name: hints[name] for name in own},
        frozenset(name for name, is_required in own.items() if is_required),
    )


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
