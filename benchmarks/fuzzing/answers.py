"""Files of answers that a full disk, a power loss or another program has damaged."""

import json
import os
import tempfile
from contextlib import suppress
from pathlib import Path
from random import Random
from unittest.mock import patch

from eenn.errors import EennError
from eenn.offload.edge.answers import AnswerFile

ARTIFACT_ID, OTHER_ID = "a" * 64, "b" * 64
NAMES = ("a.jpg", "dir/b c.png", "\udcff.jpg", "line\nend.jpg", "\x1b[2J.webp", "ö.jpg", "\\.gif")
FOREIGN = ("{}", "[]", '{"artifact_id": 5}', '{"file": 5, "artifact_id": "x"}', "[" * 100_000, "9")


def damaged_files(random: Random) -> None:
    """Damage a file of answers, go on with it twice, and check that whole answers stay.

    Damaged answers have to be given again.

    Raises:
        AssertionError: an answer is lost, or given twice; or a file of something else is changed.
    """
    names = [f"{n} {random.choice(NAMES)}" for n in range(random.randrange(1, 7))]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "answers.jsonl"
        _answer(path, names)
        content = path.read_bytes()
        for _ in range(random.randrange(3)):
            content = _damaged(content, random)
        path.write_bytes(content)
        kept = _files(content)
        try:
            given = _answer(path, names)
        except EennError:
            # No line of the file marks it as a file of answers.
            assert not kept
            assert path.read_bytes() == content
            return
        assert given == [name for name in names if name not in kept]
        left = path.read_bytes()
        assert left.startswith(content[: content.rfind(b"\n") + 1])
        assert _files(left) == [*kept, *given]
        assert _answer(path, names) == []
        assert path.read_bytes() == left


def full_disks(random: Random) -> None:
    """Answer while a disk takes only part of each write, and again once it has room.

    Raises:
        AssertionError: an answer is lost, given twice, or joined with another.
    """
    names = [f"{n} {random.choice(NAMES)}" for n in range(random.randrange(1, 7))]
    write = os.write

    def reluctant(fd: int, data: bytes) -> int:
        if random.random() < 0.3:
            raise OSError(28, "No space left on device")
        return write(fd, data[: random.randrange(1, len(data) + 1)])

    with tempfile.TemporaryDirectory() as folder:
        path, given = Path(folder) / "answers.jsonl", list[str]()
        for _ in range(random.randrange(1, 4)):
            with patch.object(os, "write", reluctant), AnswerFile(path, ARTIFACT_ID) as answers:
                for name in names:
                    if name not in answers.answered:
                        with suppress(EennError):
                            answers.append(name, {"label": 1})
                            given.append(name)
            assert _files(path.read_bytes()) == given
            assert path.read_bytes().count(b"\n") == len(given)
        given += _answer(path, names)
        assert _files(path.read_bytes()) == given
        assert sorted(given) == sorted(names)


def _answer(path: Path, names: list[str]) -> list[str]:
    """Answer the files without an answer yet; returns their names."""
    with AnswerFile(path, ARTIFACT_ID) as answers:
        open_names = [name for name in names if name not in answers.answered]
        for name in open_names:
            answers.append(name, {"label": 1, "confidences": [0.25, 0.5]})
    return open_names


def _files(content: bytes) -> list[str]:
    """List the answered files of whole lines, read without the code under test."""
    rows = []
    for line in content.split(b"\n")[:-1]:
        with suppress(ValueError, RecursionError):
            rows.append(json.loads(line))
    rows = [row for row in rows if isinstance(row, dict) and row.get("artifact_id") == ARTIFACT_ID]
    return [row["file"] for row in rows if isinstance(row.get("file"), str)]


def _damaged(content: bytes, random: Random) -> bytes:
    at, n = random.randrange(len(content) + 1), random.choice((1, 7, 100, 5000))
    foreign = random.choice((*FOREIGN, f'{{"file": "x", "artifact_id": "{OTHER_ID}"}}')).encode()
    start = content.rfind(b"\n", 0, at) + 1
    return random.choice(
        (
            content[:at],
            content[:at] + bytes(n),
            content[:at] + bytes(n) + content[at + n :],
            content[:at] + random.randbytes(n) + content[at:],
            content[:at] + content[at + n :],
            content[:start] + foreign + b"\n" + content[start:],
            content[:start] + b"\n" + content[start:],
            content + foreign,
        )
    )
