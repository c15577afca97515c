"""A CIFAR of a few images, in the files and with the checksums that torchvision asks for."""

import hashlib
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest


def md5(content: bytes) -> str:
    """The checksum by which torchvision knows a file."""
    return hashlib.md5(content).hexdigest()


class SmallCifar:
    """A small CIFAR of a reader of torchvision: its rows by file, and where it is served."""

    def __init__(
        self, root: Path, reader: Any, labels: str, names: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        generator = np.random.default_rng(0)
        self.folder = root / "made" / reader.base_folder
        self.folder.mkdir(parents=True)
        self.rows, self.labels = {}, {}
        known = {}
        for name, _ in reader.train_list + reader.test_list:
            self.rows[name] = generator.integers(0, 256, (30, 3072), np.uint8)
            self.labels[name] = [int(one) for one in generator.permutation(30) % 3]
            self._write(name, {"data": self.rows[name], labels: self.labels[name]})
        self._write(reader.meta["filename"], {names: ["ant", "bee", "cat"]})
        for path in self.folder.iterdir():
            known[path.name] = md5(path.read_bytes())
        for files in ("train_list", "test_list"):
            given = [[name, known[name]] for name, _ in getattr(reader, files)]
            monkeypatch.setattr(reader, files, given)
        meta = {**reader.meta, "md5": known[reader.meta["filename"]]}
        monkeypatch.setattr(reader, "meta", meta)

    def _write(self, name: str, content: object) -> None:
        (self.folder / name).write_bytes(pickle.dumps(content, protocol=2))
