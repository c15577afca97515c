"""Tables of docs/configuration.md: keys of conf/, their comments, allowed values and defaults."""

import re
from collections.abc import Callable, Mapping
from functools import partial

import yaml

from eenn.data.sources import SOURCES
from eenn.exits.policies.registry import POLICIES
from eenn.planning.costs import Link
from eenn.programs import CONF
from eenn.workflows.check import allowed_values
from eenn.workflows.keys import Key, keys_of_file
from eenn.workflows.measured_settings import EvaluateSettings, OffloadSettings
from eenn.workflows.settings import TrainExpertsSettings, TrainSettings
from eenn.workflows.tracking import LOGGERS

SCRIPTS: Mapping[str, type] = {
    "train": TrainSettings,
    "train_experts": TrainExpertsSettings,
    "evaluate": EvaluateSettings,
    "offload_bench": OffloadSettings,
}
_REFERENCE = re.compile(r"\$\{([a-z_.]+)\}")  # a value that is that of another key
# Groups with few files have a column of values for each; the others a row.
IN_COLUMNS, IN_ROWS = ("data", "recipe", "trainer", "logger"), ("model", "link", "policy")


def keys_of_script(script: str) -> str:
    """Make the table of the keys in a script's own file."""
    rows = [
        {
            "key": f"`{name}`",
            "meaning": key.comment,
            "allowed": _allowed(SCRIPTS[script], name) if key.value is not None else "",
            "default": _code(key.value),
        }
        for name, key in keys_of_file(CONF / f"{script}.yaml").items()
    ]
    return _table(rows)


def files_of_group(group: str) -> Mapping[str, Mapping[str, Key]]:
    """Read every file of a group, each with what it takes from another file of the group."""
    found = {}
    for file in sorted((CONF / group).glob("*.yaml")):
        defaults = (yaml.safe_load(file.read_text()) or {}).get("defaults", [])
        inherited = [name for name in defaults if isinstance(name, str)]
        keys: dict[str, Key] = {}
        for name in inherited:
            keys |= keys_of_file(CONF / group / f"{name}.yaml")
        found[file.stem] = keys | keys_of_file(file)
    return found


def keys_of_group(group: str) -> str:
    """Make the tables of a group: its keys, and the values that each file gives to them."""
    files = files_of_group(group)
    names = list(dict.fromkeys(name for keys in files.values() for name in keys))
    in_columns = group in IN_COLUMNS
    rows = []
    for name in names:
        having = {file: keys[name] for file, keys in files.items() if name in keys}
        row = {
            "key": f"`{_full(group, name)}`",
            "meaning": next((key.comment for key in having.values() if key.comment), ""),
            "allowed": _allowed_in_group(group, name, next(iter(having))),
        }
        if in_columns:
            row |= {
                f"`{file}`": _code(having[file].value) if file in having else "" for file in files
            }
        rows.append(row)
    if in_columns:
        return _table(rows)
    values = [
        {f"`{group}=`": f"`{file}`"}
        | {
            f"`{name}`": _code(keys[name].value) if name in keys else ""
            for name in names
            if name != "name" or group == "model"  # a policy's is that of the file
        }
        for file, keys in files.items()
    ]
    return f"{_table(rows)}\n\n{_table(values)}"


def _full(group: str, name: str) -> str:
    """Give the dotted name of a group's key in the whole configuration."""
    return name if "# @package _global_" in _text(group) else f"{group}.{name}"


def _text(group: str) -> str:
    return next((CONF / group).glob("*.yaml")).read_text()


def _allowed_in_group(group: str, name: str, file: str) -> str:
    takers: Mapping[str, Callable[[], Callable[..., object]]] = {
        "data.source": lambda: SOURCES.entries[file],
        "trainer": _trainer,
        "logger": lambda: LOGGERS.entries[file],
        "link": lambda: Link,
        "policy": lambda: POLICIES[file],
    }
    full = _full(group, name)
    if full.endswith(".name"):
        return "a text"
    for at, taker in takers.items():
        if full.startswith(f"{at}."):
            return _allowed(taker(), full.removeprefix(f"{at}."))
    return _allowed(TrainSettings, full)


def _trainer() -> Callable[..., object]:
    # Imported here because Lightning takes seconds, which no other page should wait for.
    from pytorch_lightning import Trainer

    return Trainer


def _allowed(taker: Callable[..., object], name: str) -> str:
    return allowed_values(taker, name).replace("settings by name", "keys and values")


def experiments() -> str:
    """Make the table of the files in conf/experiment, each with its first comment."""
    rows = []
    for file in sorted((CONF / "experiment").glob("*.yaml")):
        lines = [line.strip("# ") for line in file.read_text().splitlines() if line[:1] == "#"]
        told = " ".join(line for line in lines[1:] if not line.startswith("python "))
        rows.append({"`experiment=`": f"`{file.stem}`", "what it is": told})
    return _table(rows)


def policies() -> str:
    """Make the table of all policies: their names and the first paragraph on their classes."""
    rows = [
        {"`policy=`": f"`{name}`", "what it does": " ".join(_paragraph(policy.__doc__ or ""))}
        for name, policy in POLICIES.items()
    ]
    return _table(rows)


def _paragraph(text: str) -> list[str]:
    return text.partition("\n\n")[0].split()


def _code(value: str | None) -> str:
    """Quote a value; one that repeats another key names that key, and breaks behind the `=`."""
    shown = _REFERENCE.sub(r"= \1", value or "")
    return "" if value is None else f"`{shown}`"


def _table(rows: list[dict[str, str]]) -> str:
    """Write a Markdown table as narrow as its source can be."""
    names = list(rows[0])
    lines = [names, ["---"] * len(names), *([row[name] for name in names] for row in rows)]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


BLOCKS: dict[str, Callable[[], str]] = {
    **{f"keys_of_{script}": partial(keys_of_script, script) for script in SCRIPTS},
    **{f"keys_of_{group}": partial(keys_of_group, group) for group in (*IN_COLUMNS, *IN_ROWS)},
    "experiments": experiments,
    "policies": policies,
}
