"""A training that ends as by SIGTERM after the first step of its second epoch.

    python -m benchmarks.interrupted SETTING ...

The settings are those of train.py, which can go on with the run.
"""

import os
import signal
import sys

from eenn.training.module import EarlyExitModule
from eenn.workflows import train
from eenn.workflows.console import train as console


class Interrupted(EarlyExitModule):
    """Training that ends its own process."""

    def on_train_batch_end(self, *_: object) -> None:
        if self.current_epoch == 1:
            os.kill(os.getpid(), signal.SIGTERM)


if __name__ == "__main__":
    vars(train)["EarlyExitModule"] = Interrupted
    sys.argv[0] = "train.py"
    console()
