"""Lightning's Trainer with the settings that every fit here shares."""

import logging
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from pytorch_lightning import Callback, Trainer
from pytorch_lightning.loggers import Logger

from eenn.cli import is_on_terminal
from eenn.training.callbacks import ProgressLines
from eenn.training.checkpoints import WholeCheckpoints

FIXED: dict[str, Any] = {
    # The data module deals out samples itself, the same in every run.
    "use_distributed_sampler": False,
    "num_sanity_val_steps": 0,
    "enable_model_summary": False,
    "log_every_n_steps": 10,
}
# Arguments of Lightning's that the user cannot set.
OURS = (*FIXED, "logger", "callbacks", "plugins")
# Lightning's remarks on what is chosen here, and on its own use of what torch deprecates.
EXPECTED_WARNINGS = (
    ".*does not have many workers",  # see ImageDataModule
    "The number of training batches",  # a short epoch logs less often
    ".*sync_dist",  # every process validates the whole split
    "Checkpoint directory .* exists and is not empty",  # of the run that is resumed
    "Found .* module.* in eval mode",  # the backbone while heads train
    ".*LeafSpec",
)


def make_trainer(
    arguments: Mapping[str, Any], logger: Logger, callbacks: Sequence[Callback]
) -> Trainer:
    """Make the Trainer with the user's arguments, such as `accelerator` and `max_epochs`.

    Off a terminal progress is written in lines, unless the user sets `enable_progress_bar`.
    """
    arguments, lines = dict(arguments), list[Callback]()
    if "enable_progress_bar" not in arguments and not is_on_terminal():
        arguments["enable_progress_bar"] = False
        lines.append(ProgressLines())
    return Trainer(
        **arguments,
        **FIXED,
        logger=logger,
        callbacks=[*callbacks, *lines],
        plugins=WholeCheckpoints(),
    )


@contextmanager
def quiet() -> Iterator[None]:
    """Silence the remarks that Lightning makes on every training here."""
    # At INFO Lightning lists devices and advertises on every run.
    logging.getLogger("pytorch_lightning").setLevel(logging.WARNING)
    with warnings.catch_warnings():
        for expected in EXPECTED_WARNINGS:
            warnings.filterwarnings("ignore", expected)
        yield
