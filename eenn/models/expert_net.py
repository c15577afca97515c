"""A network with experts: one backbone, a set of heads for every kind of distortion."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from eenn.models.distortion_classifier import DistortionClassifier
from eenn.models.early_exit import EarlyExitNet


class ExpertNet(nn.Module):
    """The plain network, a further head set per kind of distortion, and the distortion classifier.

    Head sets are counted from 0, which is the plain heads; the kinds follow in their order.
    """

    def __init__(
        self,
        network: EarlyExitNet,
        experts: Mapping[str, nn.ModuleList],
        classifier: DistortionClassifier,
    ) -> None:
        super().__init__()
        self.network, self.classifier = network, classifier
        self.experts = nn.ModuleDict(experts)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Compute logits of every head set and of the distortion classifier.

        The backbone runs once. The shapes are (1 + kinds, exits, batch, classes) and (batch, 1 +
        kinds).
        """
        sets: list[nn.Module] = [self.network.heads, *self.experts.values()]
        features, x = [], images
        for segment in self.network.segments:
            x = segment(x)
            features.append(x)
        logits = [
            torch.stack([head(x) for head, x in zip(heads.children(), features, strict=True)])
            for heads in sets
        ]
        return torch.stack(logits), self.classifier(images)

    def expert_state(self) -> dict[str, Tensor]:
        """Collect the state of the experts and the classifier, without the plain network."""
        return {
            name: tensor
            for name, tensor in self.state_dict().items()
            if not name.startswith("network.")
        }
