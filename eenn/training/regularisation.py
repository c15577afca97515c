"""The regularisation of a backbone while it trains: batch norms' momentum, skipped blocks."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from eenn.errors import EennError, require_numbers

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True)
class Regularisation:
    """Changes to the modules of a backbone; None leaves those of a kind as the backbone has them.

    Args:
        batch_norm_momentum: share of the newest batch in running means and variances. MobileNetV3
            and EfficientNet have 0.01, which takes many hundred batches from a random start.
        drop_path: probability that the last residual block is left out of a step; it rises evenly
            from 0 at the first (Huang et al., 2016). Backbones without such blocks ignore it.

    Raises:
        EennError: numbers outside (0, 1] and [0, 1).
    """

    batch_norm_momentum: float | None = None
    drop_path: float | None = None

    def __post_init__(self) -> None:
        momentum, drop_path = self.batch_norm_momentum, self.drop_path
        if momentum is not None:
            require_numbers(batch_norm_momentum=momentum)
            if not 0 < momentum <= 1:
                raise EennError(
                    f"regularisation.batch_norm_momentum={momentum:g}: allowed is above 0, at most "
                    "1, or null for the backbone's own"
                )
        if drop_path is not None:
            require_numbers(drop_path=drop_path)
            if not 0 <= drop_path < 1:
                raise EennError(
                    f"regularisation.drop_path={drop_path:g}: allowed is 0 or more, below 1, or "
                    "null for the backbone's own"
                )

    def apply(self, backbone: "nn.Module") -> None:
        """Change the modules of a backbone in place."""
        # Imported here because settings are checked before torch takes its seconds.
        from torch.nn.modules.batchnorm import _BatchNorm
        from torchvision.ops import StochasticDepth

        modules = [*backbone.modules()]
        if self.batch_norm_momentum is not None:
            for module in modules:
                if isinstance(module, _BatchNorm):
                    module.momentum = self.batch_norm_momentum
        if self.drop_path is not None:
            # timm builds blocks without skips unless it is told, but with a place for them.
            places = [
                (module, name)
                for module in modules
                for name, child in module.named_children()
                if isinstance(child, StochasticDepth) or name.startswith("drop_path")
            ]
            for at, (module, name) in enumerate(places):
                rate = self.drop_path * at / max(len(places) - 1, 1)
                setattr(module, name, StochasticDepth(rate, "row"))
