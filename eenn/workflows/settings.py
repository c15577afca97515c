"""The settings of trainings, with their types: a tree for each primary file in conf/.

Ranges are checked by the functions and classes that take the values.
"""

from dataclasses import dataclass

from eenn.data.augmentation import Augmentation
from eenn.data.sources import SOURCES
from eenn.errors import EennError
from eenn.models.own_code.trust import CUSTOM, check_code
from eenn.training.expert_recipe import ExpertRecipe
from eenn.training.regularisation import Regularisation
from eenn.workflows.check import Arguments, check_arguments, check_named, whole
from eenn.workflows.tracking import LOGGERS


@dataclass(frozen=True, kw_only=True)
class DataSettings:
    """The images, and the size that they are read at.

    Args:
        root, on_error: of a source that takes them.
        input_size, resize_size: None for those of the network's weights.
        licence: of the images, for the model card.
        source: its `name` and arguments.
    """

    root: str | None = None
    on_error: str | None = None
    title: str
    source: Arguments
    input_size: int | None
    resize_size: int | None
    batch_size: int
    num_workers: int | None
    licence: str | None = None

    def __post_init__(self) -> None:
        check_named("data.source", self.source, SOURCES)
        for name in ("root", "on_error"):
            if getattr(self, name) is not None and name not in self.source:
                raise EennError(
                    f"data.{name}={getattr(self, name)}: {self.title} have none; leave it out, or "
                    "choose data=folder"
                )


TORCHVISION = "torchvision"


@dataclass(frozen=True)
class ModelSettings:
    """The network, but for its branches; as of `eenn.models.architecture.Architecture`.

    Args:
        source: the library whose network it is, torchvision or one of LIBRARIES.
        name: of the network there.
        build: the function that makes a network of the source `custom`.
        licence: of the weights that training begins from, for the model card.
    """

    source: str
    name: str
    head: str
    width_mult: float
    weights: str | None
    licence: str | None = None
    build: str | None = None

    def __post_init__(self) -> None:
        if self.build is not None:
            check_code("model.build", self.build)

    @property
    def leaves_out_build(self) -> bool:
        """Tell whether `build` is given for another network than the chosen one."""
        return self.build is not None and self.source != CUSTOM

    @property
    def backbone(self) -> str:
        """Name the backbone as `eenn.models.backbones.registry` knows it."""
        return self.name if self.source == TORCHVISION else f"{self.source}/{self.name}"


@dataclass(frozen=True)
class OptimiserSettings:
    """Rates and their schedule; as of `eenn.training.module.EarlyExitModule`."""

    lr_backbone: float
    lr_heads: float
    weight_decay: float
    schedule: str


@whole
@dataclass(frozen=True, kw_only=True)
class TrainSettings:
    """The settings of `train.py`, conf/train.yaml.

    Args:
        trainer: arguments of Lightning's Trainer.
    """

    name: str
    branches: int | tuple[int, ...]
    seed: int
    resume: str | None
    data: DataSettings
    model: ModelSettings
    augmentation: Augmentation
    regularisation: Regularisation
    optimiser: OptimiserSettings
    loss_weights: str | tuple[float, ...]
    patience: int
    trainer: Arguments
    logger: Arguments

    def __post_init__(self) -> None:
        check_logger(self.logger)
        _check_trainer(self.trainer)


@whole
@dataclass(frozen=True, kw_only=True)
class TrainExpertsSettings:
    """The settings of `train.py --config-name train_experts`, conf/train_experts.yaml.

    Args:
        build: see `check_builds`.
    """

    name: str
    artifact: str
    seed: int
    resume: str | None
    recipe: ExpertRecipe
    trainer: Arguments
    logger: Arguments
    build: str | tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        check_logger(self.logger)
        check_builds(self.build)
        given = tuple(self.trainer.get(name) for name in ("devices", "strategy", "num_nodes"))
        if given != (1, "auto", 1):
            raise EennError(
                "experts train on one device; allowed are trainer.devices=1, trainer.strategy=auto "
                "and trainer.num_nodes=1"
            )
        _check_trainer(self.trainer, "max_epochs")


def check_logger(given: Arguments) -> None:
    """Check the logger and its arguments.

    Raises:
        EennError: another logger than those of LOGGERS, or an argument that it does not take.
    """
    check_named("logger", given, LOGGERS, without=("directory", "label"))


def check_builds(given: str | tuple[str, ...] | None) -> None:
    """Check names of functions that make the custom networks of artifacts, which may be imported.

    Raises:
        EennError: a text of another form.
    """
    for name in (given,) if isinstance(given, str) else given or ():
        check_code("build", name)


def _check_trainer(given: Arguments, *without: str) -> None:
    # Imported here, after all else was found right, because Lightning takes seconds.
    from pytorch_lightning import Trainer

    from eenn.training.trainer import OURS

    check_arguments("trainer", given, Trainer, (*OURS, *without))
