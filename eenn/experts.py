"""Which heads answer an image: the plain ones, or those of the distortion it was found to have.

NumPy only, so that the edge can share it. Head sets are counted from 0, the plain ones.
"""

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


def choose(kind_probs: Floats, sure: float) -> NDArray[np.int64]:
    """The head set of every image, int (samples,): the most probable kind's, or 0 where unsure.

    Args:
        kind_probs: the distortion classifier's probabilities, (samples, 1 + kinds).
        sure: the least probability with which a distortion is believed.
    """
    best = kind_probs.argmax(-1)
    return np.where(kind_probs.max(-1) >= sure, best, 0)
