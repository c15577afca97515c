"""Checkpoints: written whole beside their place and renamed, read as data."""

import io
import pickle
from collections.abc import Mapping
from pathlib import Path

import torch
from pytorch_lightning.plugins.io import TorchCheckpointIO

from eenn.errors import EennError
from eenn.files import write_file


class WholeCheckpoints(TorchCheckpointIO):
    """Checkpoint files that are renamed into place only when they are whole.

    Lightning writes a new checkpoint to /tmp and copies it from another disk over the old one, of
    which a full disk then leaves half.
    """

    def save_checkpoint(
        self, checkpoint: dict[str, object], path: str | Path, storage_options: object = None
    ) -> None:
        """Write a checkpoint; an earlier one stays until the new one is whole."""
        content = io.BytesIO()
        torch.save(checkpoint, content)
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        write_file(Path(path), content.getvalue())

    def load_checkpoint(
        self, path: str | Path, map_location: object = None, weights_only: bool | None = True
    ) -> dict[str, Mapping[str, object]]:
        """Read a checkpoint from anybody: tensors and plain values, never code.

        Raises:
            EennError: the file is not a whole checkpoint.
        """
        try:
            content = torch.load(path, map_location="cpu", weights_only=True)
        except (pickle.UnpicklingError, RuntimeError, EOFError, ValueError, LookupError) as error:
            raise _not_whole(path) from error
        except OSError as error:
            # An error without a file name comes from an offset past the end of a cut file.
            if error.filename is not None:
                raise
            raise _not_whole(path) from error
        if not isinstance(content, dict) or "state_dict" not in content:
            raise _not_whole(path)
        return content


def _not_whole(path: str | Path) -> EennError:
    return EennError(
        f"{path} is not a whole checkpoint; go on from the best epoch by copying best.ckpt over "
        "it, or start a new run"
    )
