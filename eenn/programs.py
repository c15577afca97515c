"""The programs of eenn: the command that runs each, the extra it needs, and the place of conf/."""

from dataclasses import dataclass
from pathlib import Path

from eenn import __version__

_PACKAGE = Path(__file__).parent
# The wheel has conf/ inside the package; a checkout has it at the root, beside the scripts.
IS_CHECKOUT = not (_PACKAGE / "conf").is_dir()
CONF = _PACKAGE.parent / "conf" if IS_CHECKOUT else _PACKAGE / "conf"


@dataclass(frozen=True)
class Program:
    """A program that people run.

    Args:
        name: of the command that an installation brings.
        script: the file at the root of a checkout that runs the same; None if there is none.
        extra: the optional dependencies that it needs, as in `eenn[train]`; None if it needs none.
        imports: a module of that extra, which is missing where the extra is.
    """

    name: str
    script: str | None = None
    extra: str | None = None
    imports: str | None = None

    @property
    def command(self) -> str:
        """Give the command that runs it: `python train.py` in a checkout, else `eenn-train`."""
        return f"python {self.script}" if self.script and IS_CHECKOUT else self.name

    @property
    def version(self) -> str:
        """Give the line that `--version` prints."""
        return f"{self.name} {__version__}"


EDGE = Program("eenn-edge")
CLOUD = Program("eenn-cloud", None, "cloud", "starlette")
EXPORT = Program("eenn-export", None, "train", "torch")
PLAN = Program("eenn-plan", None, "train", "torch")
TRAIN = Program("eenn-train", "train.py", "train", "torch")
EVALUATE = Program("eenn-evaluate", "evaluate.py", "train", "torch")
BENCH = Program("eenn-bench", "offload_bench.py", "train", "torch")

# The program that reads each primary file of conf/.
CONFIGURED = {"train": TRAIN, "train_experts": TRAIN, "evaluate": EVALUATE, "offload_bench": BENCH}


def command_of(configuration: str) -> str:
    """Give the command that runs a program with one of its configurations, such as `train`."""
    named = f" --config-name {configuration}" if configuration == "train_experts" else ""
    return f"{CONFIGURED[configuration].command}{named}"


# What errors tell to run where an artifact has no experts.
TRAIN_EXPERTS = f"`{command_of('train_experts')} artifact=DIR`"
