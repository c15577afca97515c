"""The recipe of experts: kinds of distortion with their levels, epochs and learning rates."""

from collections.abc import Mapping
from dataclasses import dataclass

from eenn.data.distortions import DrawnDistortion
from eenn.errors import EennError


@dataclass(frozen=True)
class ExpertRecipe:
    """The kinds of distortion that experts are trained for, and how.

    Args:
        levels: of every kind, the mildest and the strongest that is drawn.
        epochs, lr, weight_decay: of every set of heads; the epoch with the least validation loss is
            kept.
        classifier_epochs, classifier_lr: of the distortion classifier.
        sure: the least probability with which the classifier is believed.
        fine_tuned_epochs, fine_tuned_lr: of the networks fine-tuned for a kind; with 0 epochs none
            is fine-tuned.

    Raises:
        EennError: no kinds, levels that are not allowed, or a number out of range.
    """

    levels: Mapping[str, tuple[float, float]]
    epochs: int
    lr: float
    weight_decay: float
    classifier_epochs: int
    classifier_lr: float
    sure: float
    fine_tuned_epochs: int
    fine_tuned_lr: float

    def __post_init__(self) -> None:
        if not self.levels:
            raise EennError(
                "recipe.levels={}: allowed are kinds of distortion with their mildest and "
                "strongest level, as in {gaussian_blur: [1, 5]}"
            )
        assert self.kinds
        for name, least in (("epochs", 1), ("classifier_epochs", 1), ("fine_tuned_epochs", 0)):
            if getattr(self, name) < least:
                raise EennError(
                    f"recipe.{name}={getattr(self, name)}: allowed is a whole number from {least} "
                    "up"
                )
        for name in ("lr", "classifier_lr", "fine_tuned_lr"):
            if getattr(self, name) <= 0:
                raise EennError(f"recipe.{name}={getattr(self, name)}: allowed are rates above 0")
        if not 0 <= self.sure <= 1:
            raise EennError(f"recipe.sure={self.sure}: allowed is a probability, 0 to 1")

    @property
    def kinds(self) -> list[DrawnDistortion]:
        """List the distortions that training images are drawn from."""
        return [DrawnDistortion(kind, *ends) for kind, ends in self.levels.items()]
