"""The file with a guard's state, from which a restarted edge goes on."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np

from eenn.errors import EennError
from eenn.files import Json, JsonObject, from_json, write_json
from eenn.offload.adaptation.detectors import RISK_RATIOS, SHARE_SHIFTS
from eenn.offload.adaptation.refit import Tally
from eenn.offload.adaptation.state import OFFLOAD_ALL, TOTALS, GuardState

FILE = "guard.json"
VERSION = 1
# A state takes some 5 kB.
MAX_BYTES = 2**20
# Larger whole numbers are not exact as floats.
MAX_NUMBER = 2**53


class StateFile:
    """The state of one guard on disk.

    Args:
        guarded: the artifact and all settings that the state holds for.
        candidates: number of the knob's values.
    """

    def __init__(self, path: Path, guarded: Mapping[str, Json], candidates: int) -> None:
        self.path, self._guarded, self._candidates = path, guarded, candidates
        self._saved: JsonObject = {}

    def load(self) -> GuardState | None:
        """Read the state; return None if there is none, or one for other settings.

        Raises:
            EennError: the file is damaged, or cannot be read.
        """
        try:
            if self.path.exists() and not self.path.is_file():
                raise ValueError("it is not a file")
            if self.path.stat().st_size > MAX_BYTES:
                raise ValueError(f"it has more than {MAX_BYTES} bytes")
            content = json.loads(self.path.read_bytes())
            if not isinstance(content, dict):
                raise ValueError("it is not a JSON object")
            if content.get("version") != VERSION or content.get("guarded") != self._guarded:
                return None
            return self._read(content)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise EennError(f"{self.path}: {error.strerror}; make it readable") from error
        except (ValueError, RecursionError) as error:
            said = "it is nested too deep" if isinstance(error, RecursionError) else error
            raise EennError(
                f"{self.path} is not the state of a guard: {said}; remove it, and the guard begins "
                "anew"
            ) from error

    def save(self, state: GuardState) -> None:
        """Write the state, unless it is as it was saved last.

        Raises:
            OSError: the file cannot be written; it keeps its old content.
        """
        content = asdict(replace(state, burst=None))
        if state.burst is not None:
            leaves, differs = state.burst.leaves.tolist(), state.burst.differs.tolist()
            content["burst"] = asdict(_StoredTally(leaves, differs, state.burst.images))
        if content != self._saved:
            write_json(self.path, {"version": VERSION, "guarded": self._guarded, **content})
            self._saved = content

    def _read(self, content: JsonObject) -> GuardState:
        """Read a state, and check that nothing in it is out of range."""
        burst = from_json(_StoredTally, content["burst"]) if content.get("burst") else None
        state = from_json(GuardState, {key: content[key] for key in content if key != "burst"})
        shares = (state.reference or 0.0, state.tolerance, state.burst_risk)
        numbers = [
            *state.risk_values, *state.share_values, *state.totals.values(), *shares,
            state.burst_size, state.since, state.gap,
            *vars(state.risk).values(), *vars(state.disagreement).values(),
        ]  # fmt: skip
        bounds = (state.risk, state.disagreement)
        sums = () if burst is None else (burst.leaves, burst.differs)
        images = 0 if burst is None else burst.images
        fits = (
            OFFLOAD_ALL <= state.at < self._candidates
            and len(state.risk_values) in (0, len(RISK_RATIOS))
            and len(state.share_values) in (0, 2 * len(SHARE_SHIFTS))
            and tuple(state.totals) == TOTALS
            and all(0 <= number <= MAX_NUMBER for number in numbers)
            and all(share <= 1 for share in shares)
            and all(own.events <= own.audits for own in bounds)
            and all(len(own) == self._candidates for own in sums)
            and all(0 <= number <= images for own in sums for number in own)
            and (burst is None or images < state.burst_size)
        )
        if not fits:
            raise ValueError("numbers are missing or out of range")
        if burst is not None:
            state.burst = Tally(np.array(burst.leaves), np.array(burst.differs), burst.images)
        return state


@dataclass(frozen=True)
class _StoredTally:
    """A `Tally` as JSON has it."""

    leaves: tuple[int, ...]
    differs: tuple[int, ...]
    images: int
