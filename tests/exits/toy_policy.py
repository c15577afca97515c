"""A policy that only tests know, with a knob of its own and a parameter that is fitted."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Self

import numpy as np
import pytest

from eenn.exits.policies.base import Bools, ExitProbs, Knob, Policy, Validation
from eenn.exits.policies.registry import POLICIES, register


@pytest.fixture
def toy() -> Iterator[type[Policy]]:
    """A policy with a knob of its own and a parameter that is fitted to validation records."""

    @register("toy")
    @dataclass(frozen=True, kw_only=True)
    class Toy(Policy):
        """Leave while the confidence is among the most confident `share` of validation's."""

        knob: ClassVar[Knob | None] = Knob(
            "share", 0.5, lambda _: (0.0, 0.5, 1.0), lambda _: (0.0, 0.25, 0.5, 0.75, 1.0)
        )
        share: float
        least: float

        @classmethod
        def fit(cls, settings: Mapping[str, object], validation: Validation) -> Self:
            share = float(str(settings["share"]))
            confidences = validation.outputs.exits[0].confidence
            return cls.of({**settings, "least": float(np.quantile(confidences, 1 - share))})

        def accept(self, seen: Sequence[ExitProbs], last: bool) -> Bools:
            return seen[-1].confidence >= self.least

    yield Toy
    del POLICIES["toy"]
