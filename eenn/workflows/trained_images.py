"""The images of a training run and their augmentation, as its config.yaml has them."""

from dataclasses import asdict, dataclass
from pathlib import Path

import yaml

from eenn.data.augmentation import Augmentation
from eenn.errors import EennError
from eenn.files import Json
from eenn.run_directory import CONFIG, find_artifact
from eenn.workflows.check import checked, whole
from eenn.workflows.settings import DataSettings, TrainExpertsSettings


@whole
@dataclass(frozen=True)
class TrainedImages:
    """What experts train on: the images of their artifact's training, augmented as there."""

    data: DataSettings
    augmentation: Augmentation

    @classmethod
    def of(cls, run: Path) -> "TrainedImages":
        """Those of the run in a directory, today's or one made before there were recipes."""
        content = yaml.safe_load((run / CONFIG).read_bytes())
        data = dict(content["data"])
        # Before recipes the augmentation stood with the data.
        augmentation = data.pop("augmentation", None) or content["augmentation"]
        return checked(cls, {"data": data, "augmentation": augmentation})


def of_artifact(settings: TrainExpertsSettings) -> dict[str, Json]:
    """What the config.yaml of a training of experts takes from its artifact: path and images.

    Raises:
        EennError: the artifact's run is not known.
    """
    path = find_artifact(settings.artifact)
    if not (path.parent / CONFIG).exists():
        raise EennError(
            f"{path} lies outside its training run, so where its images are is not known; give the "
            "artifact in the directory that train.py wrote, with its config.yaml"
        )
    return {"artifact": str(path), **asdict(TrainedImages.of(path.parent))}
