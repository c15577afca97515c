"""Checkpoints: whole or not there, beside their place, and never code."""

import errno
import os
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch

from eenn.cli import one_line_errors
from eenn.errors import EennError
from eenn.training.checkpoints import WholeCheckpoints
from eenn.training.trainer import make_trainer

CONTENT = {"state_dict": {"weight": torch.arange(1000.0)}, "epoch": 3}


class Payload:
    def __reduce__(self) -> Any:
        return os.mkdir, ("marker",)


def test_a_full_disk_leaves_the_old_checkpoint_and_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    checkpoints, best = WholeCheckpoints(), tmp_path / "checkpoints" / "best.ckpt"
    checkpoints.save_checkpoint(CONTENT, best)
    before = best.read_bytes()

    def full(handle: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(SystemExit), one_line_errors():
        checkpoints.save_checkpoint({**CONTENT, "epoch": 4}, best)
    assert capsys.readouterr().err == f"error: {best}: No space left on device\n"
    assert best.read_bytes() == before
    assert os.listdir(best.parent) == ["best.ckpt"]
    assert checkpoints.load_checkpoint(best)["epoch"] == 3


def test_nothing_is_written_elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A rename from another disk would be a copy, which is not atomic."""
    replaced: list[Path] = []
    replace = os.replace

    def watched(source: str, target: Path) -> None:
        replaced.append(Path(source))
        replace(source, target)

    monkeypatch.setattr(os, "replace", watched)
    WholeCheckpoints().save_checkpoint(CONTENT, tmp_path / "last.ckpt")
    assert [source.parent for source in replaced] == [tmp_path]


@pytest.mark.parametrize("kept", [0, 1, 30, 400, 3000, -60])
def test_a_torn_checkpoint_is_one_line(kept: int, tmp_path: Path) -> None:
    file = tmp_path / "last.ckpt"
    WholeCheckpoints().save_checkpoint(CONTENT, file)
    file.write_bytes(file.read_bytes()[:kept])
    with pytest.raises(EennError, match=r"last\.ckpt is not a whole checkpoint; go on") as caught:
        WholeCheckpoints().load_checkpoint(file)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("content", [b"garbage", pickle.dumps(Payload(), 2), pickle.dumps([1], 2)])
def test_a_checkpoint_is_never_code(
    content: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    file = tmp_path / "last.ckpt"
    file.write_bytes(content)
    with pytest.raises(EennError, match="is not a whole checkpoint"):
        WholeCheckpoints().load_checkpoint(file)
    torch.save({"state_dict": {}, "payload": Payload()}, file)
    with pytest.raises(EennError, match="is not a whole checkpoint"):
        WholeCheckpoints().load_checkpoint(file, weights_only=False)
    assert not (tmp_path / "marker").exists()


def test_every_fit_has_such_checkpoints() -> None:
    arguments = {"accelerator": "cpu", "devices": 1, "max_epochs": 1}
    logger: Any = False
    arguments |= {"enable_checkpointing": False, "enable_progress_bar": False}
    trainer = make_trainer(arguments, logger, [])
    assert isinstance(trainer.strategy.checkpoint_io, WholeCheckpoints)
