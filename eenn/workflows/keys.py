"""The keys of conf/ with their comments, and the help of the programs that is made from them."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import yaml

from eenn.programs import CONF, CONFIGURED, IS_CHECKOUT, Program, command_of

# What Hydra reads, not the programs.
OF_HYDRA = ("defaults", "hydra")
# Settings that are one value, although YAML has them as a mapping.
MAPPINGS = ("recipe.levels",)

_SHOWN = 22  # characters of a default in the help
# Keys that repeat another one, which people set instead.
_SET_ELSEWHERE = ("source.root", "source.on_error", "source.size", "source.seed")


@dataclass(frozen=True)
class Key:
    """A key of a file in conf/: its comment, and its value as written there.

    Args:
        value: None of a key that only holds others.
    """

    comment: str
    value: str | None


@cache
def keys_of_file(file: Path) -> dict[str, Key]:
    """Read the keys of a file in conf/ by their dotted names.

    The comment of a key stands behind it, goes on in lines below from the same column, and may
    begin in lines above. What stands above the first key is about the file.
    """
    lines = file.read_text(encoding="utf-8").splitlines()
    node: yaml.MappingNode = yaml.compose(file.read_text(encoding="utf-8"))  # type: ignore[assignment]
    return dict(_keys(node, "", lines, _first_line(node)))


def _first_line(node: yaml.MappingNode) -> int:
    return int(node.value[0][0].start_mark.line)


def _keys(node: yaml.MappingNode, at: str, lines: list[str], top: int) -> Iterator[tuple[str, Key]]:
    for name, value in node.value:
        key = f"{at}{name.value}"
        if key in OF_HYDRA:
            continue
        holds_others = isinstance(value, yaml.MappingNode) and key not in MAPPINGS and value.value
        end = name.end_mark if holds_others or key in MAPPINGS else value.end_mark
        comment = _comment(lines, name.start_mark, end, top)
        if not holds_others:
            yield key, Key(comment, _written(value))
            continue
        if comment:
            yield key, Key(comment, None)
        yield from _keys(value, f"{key}.", lines, top)


def _comment(lines: list[str], key: yaml.Mark, end: yaml.Mark, top: int) -> str:
    """Join the comment of a key that begins at `key`, and whose value ends at `end`."""
    found: list[str] = []
    above, start = key.line - 1, key.column
    while (
        above >= top and lines[above][start:].startswith("#") and not lines[above][:start].strip()
    ):
        found.insert(0, lines[above].strip(" #"))
        above -= 1
    before, mark, behind = lines[end.line][end.column :].partition("#")
    if mark and before.strip(" :") == "":
        found.append(behind.strip())
        indent = end.column + len(before)
        for line in lines[end.line + 1 :]:
            if line[:indent].strip() or line[indent : indent + 1] != "#":
                break
            found.append(line.strip(" #"))
    return " ".join(found)


def _written(node: yaml.Node) -> str:
    """Write a value in one line, numbers as the file has them."""
    if isinstance(node, yaml.SequenceNode):
        return f"[{', '.join(map(_written, node.value))}]"
    if isinstance(node, yaml.MappingNode):
        inner = (f"{name.value}: {_written(value)}" for name, value in node.value)
        return f"{{{', '.join(inner)}}}"
    return str(node.value) or "null"


def help_of(configuration: str) -> str:
    """Word the help of a program: how it is used, the files to choose from, and its keys.

    Args:
        configuration: the primary file in conf/ that the program reads.
    """
    program, file = CONFIGURED[configuration], CONF / f"{configuration}.yaml"
    lines = file.read_text(encoding="utf-8").splitlines()
    groups = _groups(lines)
    keys = {name: key for name, key in keys_of_file(file).items() if key.value is not None}
    for group, chosen in groups.items():
        keys |= {n: key for n, key in _keys_of_group(group, chosen).items() if n not in keys}
    return "\n".join(
        [
            f"usage: {command_of(configuration)} [KEY=VALUE ...]   or a sweep: -m KEY=VALUE,VALUE",
            *(f"  {_as_typed(line, program)}" for line in _first_comment(lines)),
            "",
            "Files to choose from, with the default:",
            *_table({g: (f, ", ".join(_names(g, program))) for g, f in groups.items()}),
            "",
            "Keys, with the default and what it means:",
            *_table({name: (key.value or "", key.comment) for name, key in keys.items()}),
            "",
            "--cfg job prints all settings that a command line comes to, --version the version.",
        ]
    )


def _first_comment(lines: list[str]) -> Iterator[str]:
    for line in lines:
        if not line.startswith("# "):
            return
        yield line[2:]


def _as_typed(line: str, program: Program) -> str:
    return line if IS_CHECKOUT else line.replace(f"python {program.script}", program.name)


def _groups(lines: list[str]) -> dict[str, str]:
    """Give the groups that a primary file chooses from, each with the file that it comes to."""
    listed = [one for one in yaml.safe_load("\n".join(lines))["defaults"] if isinstance(one, dict)]
    chosen = {group: file or "null" for one in listed for group, file in one.items()}
    overridden: dict[str, str] = {}
    for group, file in chosen.items():
        overridden |= _overrides(CONF / group / f"{file}.yaml")
    return {**chosen, **overridden}


def _defaults(file: Path) -> list[str | dict[str, str]]:
    """Read the list of files that a file starts from, or for which it makes another choice."""
    content = yaml.safe_load(file.read_text(encoding="utf-8")) if file.exists() else None
    listed: list[str | dict[str, str]] = (content or {}).get("defaults", [])
    return listed


def _overrides(file: Path) -> dict[str, str]:
    """Give the groups for which a chosen file makes another choice."""
    pairs = [pair for one in _defaults(file) if isinstance(one, dict) for pair in one.items()]
    return {name.removeprefix("override /"): chosen for name, chosen in pairs}


def _bases(file: Path) -> list[str]:
    """Name the files of the same group that a file starts from."""
    return [one for one in _defaults(file) if isinstance(one, str) and one != "_self_"]


def _names(group: str, program: Program) -> list[str]:
    """Name the files of a group; of experiments only those that are for the program."""
    files = sorted((CONF / group).glob("*.yaml"))
    if group == "experiment":
        typed = f"python {program.script} "
        files = [file for file in files if typed in file.read_text(encoding="utf-8")]
    return [file.stem for file in files]


def _keys_of_group(group: str, chosen: str) -> dict[str, Key]:
    """Give the keys with a comment in any file of a group, with the value of the chosen file."""
    commented: dict[str, Key] = {}
    of_chosen: dict[str, Key] = {}
    bases = _bases(CONF / group / f"{chosen}.yaml")
    for file in sorted((CONF / group).glob("*.yaml")) if group != "experiment" else []:
        is_whole = "# @package _global_" in file.read_text(encoding="utf-8")
        for name, key in keys_of_file(file).items():
            full = name if is_whole else f"{group}.{name}"
            if key.value is None or full.endswith(("name", *_SET_ELSEWHERE)):
                continue
            if key.comment:
                commented.setdefault(full, Key(f"{key.comment}; {group}={file.stem}", key.value))
            if file.stem == chosen or (file.stem in bases and full not in of_chosen):
                of_chosen[full] = key
    # The file is named where the chosen one does not have the key.
    return {
        name: Key(key.comment.rpartition("; ")[0], of_chosen[name].value)
        if name in of_chosen
        else key
        for name, key in commented.items()
    }


def _table(rows: dict[str, tuple[str, str]]) -> list[str]:
    """Lay out lines of `key=default  meaning`, the meanings below each other."""
    assigned = {name: f"{name}={_short(value)}" for name, (value, _) in rows.items()}
    width = max(map(len, assigned.values()))
    return [f"  {assigned[name]:{width}}  {said}".rstrip() for name, (_, said) in rows.items()]


def _short(value: str) -> str:
    if len(value) <= _SHOWN:
        return value
    return f"{value.split(',')[0]}, ...]" if value.startswith("[") else f"{value[:_SHOWN]}..."
