"""Answers of a network to single images, one by one: what an evaluation is held against."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from eenn.artifact import store
from eenn.preprocess import read_image
from tests.artifact.trained_run import PREPROCESSING


@dataclass(frozen=True)
class Answered:
    """One image's way.

    Args:
        exit: at which it stopped, counted from 0.
        said: the answers of all exits.
    """

    exit: int
    answer: int
    last: int
    macs: int
    sent: int
    said: tuple[int, ...]


def answered(
    artifact: Path, files: Sequence[Path], needed: Sequence[float], temperatures: Sequence[float]
) -> list[Answered]:
    """Ask the branches and the last exit, every one with the confidence that it needs.

    Args:
        needed: by the branches, counted from the first; the last exit answers whatever is left.
    """
    saved = store.load(artifact)
    exits = saved.manifest.exits
    found = []
    for file in files:
        x = torch.from_numpy(PREPROCESSING(read_image(file, 36)))[None]
        logits = [own[0].detach().double() for own, _ in saved.network.steps(x)]
        said = tuple(int(own.argmax()) for own in logits)
        macs, stopped = 0, len(exits) - 1
        for exit, (own, temperature) in enumerate(zip(logits, temperatures, strict=True)):
            macs += exits[exit].macs - (exits[exit - 1].macs if exit else 0)
            if exit < len(needed) or exit == len(exits) - 1:
                macs += exits[exit].head_macs
            confidence = float(torch.softmax(own / temperature, -1).max())
            if exit < len(needed) and confidence >= needed[exit]:
                stopped = exit
                break
        sent = 0 if stopped < len(exits) - 1 else exits[len(needed) - 1].payload_bytes
        found.append(Answered(stopped, said[stopped], said[-1], macs, sent, said))
    return found
