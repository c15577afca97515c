"""The kinds of distortion that the images of a guarded edge look like, judged in the background."""

from collections import Counter
from collections.abc import Callable
from threading import Lock

import numpy as np
from numpy.typing import NDArray

from eenn.artifact.deployment import Deployment
from eenn.artifact.manifest import ArtifactMissing, Manifest
from eenn.exits.head_sets import PLAIN, Ints
from eenn.offload.edge.experts import judges_kinds, open_head_chooser
from eenn.offload.graphs.index import Graphs

Floats = NDArray[np.float32]

ENOUGH = 20  # images since an alarm, from which on a share of them says something
MOST = 2 / 3


class Kinds:
    """Judges images by the distortion classifier, and counts them since the last alarm.

    Where most images since an alarm look like one kind, for which there are experts, the user is
    told. Thread-safe.

    Args:
        choose: see `open_head_chooser`.
        head_sets: their names.
        say: called with a line for the user.
    """

    def __init__(
        self,
        choose: Callable[[Floats], Ints],
        head_sets: tuple[str, ...],
        say: Callable[[str], None],
    ) -> None:
        self._choose, self._head_sets, self._say = choose, head_sets, say
        self._lock, self._counts, self._to_tell = Lock(), Counter[str](), False

    def judge(self, image: Floats) -> str:
        """Find the head set for an image, (1, 3, H, W): `plain` where the classifier is unsure."""
        kind = self._head_sets[int(self._choose(image)[0])]
        with self._lock:
            self._counts[kind] += 1
            ((found, count),) = self._counts.most_common(1)
            images = self._counts.total()
            is_clear = images >= ENOUGH and count >= MOST * images and found != PLAIN
            tells, self._to_tell = self._to_tell and is_clear, self._to_tell and not is_clear
        if tells:
            self._say(
                f"guard: {100 * count / images:.0f} % of {images} images since the alarm look like "
                f"{found}, for which this artifact has experts; try --experts auto"
            )
        return kind

    def restart(self) -> None:
        """Count from 0 again, after an alarm."""
        with self._lock:
            self._counts.clear()
            self._to_tell = True

    def shares(self) -> dict[str, float] | None:
        """Compute the share of each head set, the largest first; None before any image."""
        with self._lock:
            images = self._counts.total()
            return {own: n / images for own, n in self._counts.most_common()} or None


def open_kinds(
    manifest: Manifest, deployment: Deployment, say: Callable[[str], None]
) -> Kinds | None:
    """Open the distortion classifier for a guard, where its deployment has a use for it.

    Folders that were written for a deployment without a guard lack the classifier; the user is told
    that the guard goes on without it.

    Raises:
        EennError: see `Graphs.session`.
    """
    if not judges_kinds(manifest, deployment):
        return None
    try:
        choose = open_head_chooser(Graphs.read(manifest.path), threads=1)
    except ArtifactMissing as error:
        say(f"warning: the guard cannot judge which experts images look like: {error}")
        return None
    return Kinds(choose, manifest.head_sets, say)
