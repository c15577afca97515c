"""The early-exit network: segments of the backbone with a head each."""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn

from eenn.errors import EennError


class EarlyExitNet(nn.Module):
    """K segments in a row, a head after each: `logits[k] = heads[k](features after segment k)`.

    A segment is a sequence of blocks. The last head is the backbone's own classifier, so exits =
    branches + 1, and a network without branches is the conventional network.
    """

    def __init__(self, segments: Sequence[nn.Module], heads: Sequence[nn.Module]) -> None:
        super().__init__()
        if not segments or len(segments) != len(heads):
            raise EennError(f"{len(segments)} segments, {len(heads)} heads: one head per segment")
        self.segments, self.heads = nn.ModuleList(segments), nn.ModuleList(heads)

    @property
    def blocks(self) -> list[list[nn.Module]]:
        """List the blocks of every segment."""
        return [list(segment.children()) for segment in self.segments]

    def forward(self, x: Tensor) -> Tensor:
        """Compute the logits of every exit, (exits, batch, classes), in either mode."""
        return torch.stack([logits for logits, _ in self.steps(x)])

    def steps(self, x: Tensor, start: int = 0) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield logits (batch, classes) and features after each segment from `start` on.

        Segments are computed lazily: a caller that stops iterating at an exit has run nothing
        behind it.
        """
        for k in range(start, len(self.segments)):
            x = self.segments[k](x)
            yield self.heads[k](x), x

    def edge(self, x: Tensor, split_point: int) -> tuple[Tensor, Tensor]:
        """Run the first segments; return logits (split_point, batch, classes) and features.

        At split point 0 the features are the images, and the logits are empty, of shape (0,).
        """
        logits = []
        for k in range(split_point):
            x = self.segments[k](x)
            logits.append(self.heads[k](x))
        return (torch.stack(logits) if logits else x.new_empty(0)), x

    def cloud(self, features: Tensor, split_point: int) -> Tensor:
        """Compute logits of exits behind the split, (exits - split_point, batch, classes)."""
        return torch.stack([logits for logits, _ in self.steps(features, split_point)])
