"""The images of a training run and their augmentation, read from its config.yaml."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from eenn.data.augmentation import Augmentation
from eenn.errors import EennError
from eenn.files import Json
from eenn.run_directory import CONFIG, find_artifact, read_config
from eenn.workflows.check import checked, whole
from eenn.workflows.settings import DataSettings, TrainExpertsSettings


@whole
@dataclass(frozen=True)
class TrainedImages:
    """The images that experts train on: those of their artifact's training, augmented as there."""

    data: DataSettings
    augmentation: Augmentation

    @classmethod
    def of(cls, run: Path) -> "TrainedImages":
        """Read the images of the run in a directory, also of one made before there were recipes."""
        content = read_config(run / CONFIG)
        own = {key: content[key] for key in ("data", "augmentation") if key in content}
        data = own.get("data")
        if isinstance(data, Mapping) and "augmentation" in data:
            # Before recipes the augmentation stood with the data.
            own["data"] = {key: data[key] for key in data if key != "augmentation"}
            own["augmentation"] = data["augmentation"]
        return checked(cls, own)


def of_artifact(settings: TrainExpertsSettings) -> dict[str, Json]:
    """Find the path and images of an artifact, for the config.yaml of a training of experts.

    Raises:
        EennError: the artifact's run is not known.
    """
    path = find_artifact(settings.artifact)
    if not (path.parent / CONFIG).exists():
        raise EennError(
            f"{path} lies outside its training run, so where its images are is not known; give the "
            "artifact in the directory that its training wrote, with its config.yaml"
        )
    return {"artifact": str(path), **asdict(TrainedImages.of(path.parent))}
