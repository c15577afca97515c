"""The last line of an interrupted run, and the next run's mention of it."""

import os
import signal
from pathlib import Path

import pytest
from torch import Tensor

from eenn.training.module import EarlyExitModule
from tests.workflows.training import TINY, run_in

SMALL = tuple(setting for setting in TINY if "progress_bar" not in setting)


def stopped_by(number: signal.Signals, epoch: int, patch: pytest.MonkeyPatch) -> None:
    """Send this process a signal when a training comes to the first batch of an epoch."""
    step = EarlyExitModule.training_step

    def training_step(self: EarlyExitModule, batch: tuple[Tensor, Tensor], index: int) -> Tensor:
        if (self.current_epoch, index) == (epoch, 0):
            os.kill(os.getpid(), number)
        return step(self, batch, index)

    patch.setattr(EarlyExitModule, "training_step", training_step)


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_training_says_how_it_goes_on_and_the_next_one_says_so_too(
    number: signal.Signals,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    directory = tmp_path / "cut"
    handler = signal.getsignal(number)
    with monkeypatch.context() as patch:
        stopped_by(number, 1, patch)
        with pytest.raises(SystemExit) as stop:
            run_in(directory, *SMALL, "logger=csv")
    signal.signal(signal.SIGINT, signal.default_int_handler)  # which Lightning leaves ignored
    assert stop.value.code == 130
    assert signal.getsignal(number) == handler
    said = capfd.readouterr().err
    assert "epoch 1 of at most 2: loss train " in said
    assert said.splitlines()[-1] == (
        f"interrupted: {directory}; it goes on with `python train.py resume={directory}`"
    )
    kept = tmp_path / "outputs" / "train" / "cut" / "1"
    kept.parent.mkdir(parents=True)
    directory.rename(kept)
    with monkeypatch.context() as patch:
        stopped_by(number, 0, patch)
        with pytest.raises(SystemExit):
            run_in(tmp_path / "next", *SMALL, "logger=csv")
    signal.signal(signal.SIGINT, signal.default_int_handler)
    captured = capfd.readouterr()
    way = "it goes on with `python train.py resume=outputs/train/cut/1`"
    assert f"not finished, unless it still runs: outputs/train/cut/1; {way}" in captured.out
    assert "nothing to go on from, start it again" in captured.err
