"""Checkpoints that are whole or not there: written beside their place and renamed, read as data."""

import io
import pickle
from collections.abc import Mapping
from pathlib import Path

import torch
from pytorch_lightning.plugins.io import TorchCheckpointIO

from eenn.errors import EennError
from eenn.files import write_file


class WholeCheckpoints(TorchCheckpointIO):
    """Lightning's checkpoints, of which Lightning makes the new one on the disk of /tmp.

    On another disk it then copies it over the old one, and a full disk leaves half of it.
    """

    def save_checkpoint(
        self, checkpoint: dict[str, object], path: str | Path, storage_options: object = None
    ) -> None:
        """Write a checkpoint; one that was there stays until the new one is whole."""
        content = io.BytesIO()
        torch.save(checkpoint, content)
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        write_file(Path(path), content.getvalue())

    def load_checkpoint(
        self, path: str | Path, map_location: object = None, weights_only: bool | None = True
    ) -> dict[str, Mapping[str, object]]:
        """Read a checkpoint, whoever wrote it: tensors and plain values, never code.

        Raises:
            EennError: it is not one, or not the whole of it.
        """
        try:
            content = torch.load(path, map_location="cpu", weights_only=True)
        except (pickle.UnpicklingError, RuntimeError, EOFError, ValueError, LookupError) as error:
            raise _not_whole(path) from error
        except OSError as error:
            # One without a name is from a place in the file that is not there.
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
