"""The check of a whole composed configuration, before anything is read, trained or written.

Unknown keys, also those of files, and wrong types are reported in one line each. Types are those of
dataclasses, and of the signatures of the functions and classes that a configuration names.
"""

import json
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import field, fields, is_dataclass, make_dataclass
from inspect import signature
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from pydantic import ConfigDict, TypeAdapter, ValidationError, with_config

from eenn.cli import quoted_for_shell, setting_text, unknown_key
from eenn.data.by_name import Table
from eenn.errors import EennError
from eenn.files import Json

T = TypeVar("T")
# Arguments in a configuration for a data source, a logger, a policy or Lightning's Trainer.
Arguments = Mapping[str, Any]
# Marks a dataclass that is checked with all dataclasses inside it.
whole = with_config(ConfigDict(extra="forbid", strict=True, arbitrary_types_allowed=True))
# The words for one value and for several values of a type.
_CALLED: dict[Any, tuple[str, str]] = {
    int: ("a whole number", "whole numbers"),
    float: ("a number", "numbers"),
    str: ("a text", "texts"),
    bool: ("true or false", "true or false"),
    NoneType: ("null", "null"),
}


def checked(kind: type[T], given: Mapping[str, Json], at: str = "") -> T:
    """Build settings of a kind from a composed configuration.

    Args:
        at: key of `given` in the whole configuration.

    Raises:
        EennError: a key that `kind` does not have, or a value of another type.
    """
    try:
        # JSON, like YAML, has lists and mappings, but neither tuples nor objects.
        return TypeAdapter(kind).validate_json(json.dumps(given))
    except ValidationError as error:
        mistakes = [(mistake["type"], mistake["loc"]) for mistake in error.errors()]
    unknown = [place for what, place in mistakes if what == "unexpected_keyword_argument"]
    if unknown:
        beside = {_key(at, place): keys_of(_found(kind, place[:-1])[1]) for place in unknown}
        raise EennError(unknown_key(beside))
    path, hint = _found(kind, mistakes[0][1])
    value: Any = given
    for part in path:
        if isinstance(value, Mapping) and part not in value:
            raise EennError(f"{_key(at, path)} is missing; {_allowed(hint)}")
        value = value[part]
    key = _key(at, path)
    line = f"{key}={setting_text(value)}: {_allowed(hint)}"
    if "a text" in line and isinstance(value, int | float):
        line += (
            ", which if it looks like a number is given as "
            f"{quoted_for_shell(key, setting_text(value))}"
        )
    # Some settings are annotated with what else may have been meant.
    raise EennError("; ".join((line, *getattr(hint, "__metadata__", ()))))


def check_named(
    at: str, given: Arguments, table: Table[object], without: Collection[str] = ()
) -> None:
    """Check a choice from a table and its arguments; see `check_arguments`."""
    opener = table.opener(at, given)
    check_arguments(at, opener.keywords, opener.func, without)


def check_arguments(
    at: str, given: Arguments, call: Callable[..., object], without: Collection[str]
) -> None:
    """Check a configuration's arguments for a function or class against its signature.

    Args:
        without: parameters that the configuration does not set.
    """
    checked(whole(_members(call, without)), given, at)


def _members(call: Callable[..., object], without: Collection[str]) -> type:
    """Make a dataclass of what a function or class takes."""
    members = [
        (p.name, Any if unknown else p.annotation, field() if p.default is p.empty else p.default)
        for p in signature(call).parameters.values()
        if p.name not in without
        for unknown in [p.annotation is p.empty or isinstance(p.annotation, str)]
    ]
    return make_dataclass("Members", members, kw_only=True)


def allowed_values(taker: Callable[..., object], key: str) -> str:
    """Say in words which values a key of settings may have.

    Args:
        taker: the settings' dataclass, or what takes them as arguments.
        key: dotted below `taker`.
    """
    kind = taker if is_dataclass(taker) else _members(taker, ())
    return _words(_found(kind, key.split("."))[1])


def keys_of(kind: object) -> list[str]:
    """List the keys of settings of a kind."""
    return [each.name for each in fields(_named(kind))]


def _found(kind: Any, place: Sequence[int | str]) -> tuple[list[int | str], Any]:
    """Find the key at the place of a mistake, and the type that belongs there."""
    hint, path = kind, list[int | str]()
    for part in place:
        named = _named(hint)
        if is_dataclass(named) and part in keys_of(named):
            hint = get_type_hints(named, include_extras=True)[str(part)]
        elif get_origin(named) is Mapping:
            hint = get_args(named)[1]
        elif _holds_settings(named):
            hint = get_args(named)[0]
        else:
            break
        path.append(part)
    return path, hint


def _named(hint: Any) -> Any:
    """Find the dataclass, the mapping or the list of settings in a type that may be null."""
    if _holds_settings(hint):
        return hint
    return next(
        (
            own
            for own in get_args(hint)
            if is_dataclass(own) or get_origin(own) is Mapping or _holds_settings(own)
        ),
        hint,
    )


def _holds_settings(hint: Any) -> bool:
    """Tell whether a type is that of a list of settings by name."""
    return get_origin(hint) is tuple and is_dataclass(get_args(hint)[0])


def _key(at: str, path: Sequence[int | str]) -> str:
    return ".".join(filter(None, (at, *map(str, path))))


def _allowed(hint: Any) -> str:
    words = _words(hint)
    return f"allowed {'are' if ',' in words else 'is'} {words}"


def _words(hint: Any, many: bool = False) -> str:
    """Describe the values of a type; empty for objects, which no configuration can hold."""
    kind, parts = get_origin(hint), get_args(hint)
    if kind is Annotated:
        return _words(parts[0], many)
    if kind in (Union, UnionType):
        return " or ".join(dict.fromkeys(filter(None, (_words(part, many) for part in parts))))
    if kind is Literal:
        return ", ".join(map(str, parts))
    if kind in (tuple, list):
        inner = _words(parts[0], many=True)
        length = "" if Ellipsis in parts or kind is list else f"{len(parts)} "
        return f"lists of {length}{inner}" if many else f"a list of {length}{inner}"
    if hint in _CALLED:
        return _CALLED[hint][many]
    return "settings by name" if kind in (Mapping, dict) or is_dataclass(hint) else ""
