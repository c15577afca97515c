"""The head sets that an interrupted training of experts had finished, kept and read."""

import copy
import json
from dataclasses import asdict
from pathlib import Path

import safetensors
import safetensors.torch
from torch import nn

from eenn.exits.head_sets import Expert
from eenn.files import from_json, write_file
from eenn.run_directory import FINISHED


def save_heads(directory: Path, heads: nn.ModuleList, expert: Expert) -> None:
    """Keep the heads of one kind, and their description, below a run's directory."""
    state = {name: tensor.contiguous() for name, tensor in heads.state_dict().items()}
    content = safetensors.torch.save(state, {"expert": json.dumps(asdict(expert))})
    (directory / FINISHED).mkdir(exist_ok=True)
    write_file(_file(directory, expert.kind), content)


def load_heads(directory: Path, kind: str, like: nn.ModuleList) -> tuple[nn.ModuleList, Expert]:
    """Load the heads that were kept, and their description.

    Args:
        like: heads of the same shapes.

    Raises:
        FileNotFoundError: no heads of this kind were kept.
    """
    file = _file(directory, kind)
    heads = copy.deepcopy(like)
    heads.load_state_dict(safetensors.torch.load_file(file))
    with safetensors.safe_open(file, framework="pt") as opened:
        expert = from_json(Expert, json.loads(opened.metadata()["expert"]))
    return heads, expert


def _file(directory: Path, kind: str) -> Path:
    return directory / FINISHED / f"{kind}.safetensors"
