"""A folder for a device beside the artifact that it was written from: answers, and files opened."""

import io
import json
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

from eenn.artifact.deployment import Deployment
from eenn.offload.edge import command as edge_command
from eenn.offload.export import command as export_command

_watched: list[set[str]] = []


def _note(event: str, given: tuple[object, ...]) -> None:
    if event == "open" and _watched and isinstance(given[0], str):
        _watched[-1].add(os.path.realpath(given[0]))


# There is no way to take such a hook back.
sys.addaudithook(_note)


@contextmanager
def opened_below(folder: Path) -> Iterator[set[str]]:
    """The files in a folder that are opened until the block ends, by their names inside it."""
    found: set[str] = set()
    _watched.append(set())
    try:
        yield found
    finally:
        root = folder.resolve()
        paths = map(Path, _watched.pop())
        found |= {str(path.relative_to(root)) for path in paths if path.is_relative_to(root)}


def files_of(folder: Path) -> set[str]:
    return {str(file.relative_to(folder)) for file in folder.rglob("*") if file.is_file()}


def export_to(*arguments: object) -> tuple[int, str, str]:
    """Runs `eenn-export`: exit code, stdout, stderr."""
    return _run(export_command.main, arguments)


def answers(*arguments: object) -> list[dict[str, Any]]:
    """What `eenn-edge` answers, without what depends on the clock."""
    _, out, _ = _run(edge_command.main, ("--json", *arguments))
    return [
        {key: value for key, value in json.loads(line).items() if not key.endswith("_ms")}
        for line in out.splitlines()
    ]


def assert_answers_as_the_whole(
    path: Path,
    deployment: Deployment,
    files: Sequence[Path],
    scratch: Path,
    flags: Sequence[object] = (),
    upstream: Sequence[object] = (),
) -> int:
    """A folder for this deployment answers as the artifact, and all of its files are opened.

    Args:
        flags: of `eenn-edge`.
        upstream: `--upstream DIR`, which the artifact needs and the folder has inside.

    Returns:
        How many answers there were.
    """
    file, folder = scratch / "chosen.json", scratch / "folder"
    deployment.save(file)
    code, _, error = export_to(path, "--deployment", file, "--to", folder, *upstream)
    assert (code, error) == (0, "")
    with opened_below(folder) as opened:
        found = answers("--artifact", folder, *flags, *files)
    whole = ("--artifact", path, "--deployment", file)
    assert found == answers(*whole, *flags, *upstream, *files)
    assert opened == files_of(folder)
    return len(found)


def _run(main: Callable[..., None], arguments: Sequence[object]) -> tuple[int, str, str]:
    out, error, code = io.StringIO(), io.StringIO(), 0
    with redirect_stdout(out), redirect_stderr(error):
        try:
            main([str(argument) for argument in arguments])
        except SystemExit as stop:
            code = int(stop.code or 0)
    return code, out.getvalue(), error.getvalue()
