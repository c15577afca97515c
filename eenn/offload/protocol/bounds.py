"""What a message may hold: bytes, numbers, lists, files, members and texts."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from eenn.offload.protocol.wire import Malformed

# The json module keeps the interpreter from all other threads until it has parsed the last number;
# so many take it some 20 ms on the machine of results/attacks.json.
JSON_NUMBERS = 2**16
# A number as text, with a comma and a blank.
NUMBER_BYTES = 32
# Members of JSON objects and their texts, beside numbers; an honest header has some twenty.
JSON_MEMBERS, JSON_TEXT_BYTES = 1024, 2**16
# It comes back with the reply; a UUID has 36.
ID_CHARACTERS = 256


@dataclass(frozen=True)
class Bounds:
    """What a receiver takes, held against a message before any of it is parsed.

    Args:
        content_bytes: of a message, decompressed.
        numbers: that stand in JSON instead of in bytes; `lists` as many lists around them.
        files: elements of all BYTES tensors.
    """

    content_bytes: int = 64 * 2**20
    numbers: int = JSON_NUMBERS
    lists: int = JSON_NUMBERS
    files: int = 128

    @classmethod
    def of_files(cls, content_bytes: int, samples: int) -> "Bounds":
        """Bounds of requests with that many files, which JSON cannot hold."""
        return cls(content_bytes, numbers=0, lists=0, files=samples)

    @classmethod
    def of_features(cls, content_bytes: int, samples: int, shape: Sequence[int]) -> "Bounds":
        """Bounds of requests with that many samples of features, each of `shape`.

        JSON may hold all of them up to JSON_NUMBERS numbers, and one sample whatever its size.
        """
        size = math.prod(shape)
        in_json = max(1, min(samples, JSON_NUMBERS // size))
        lists = in_json * sum(math.prod(shape[:depth]) for depth in range(len(shape)))
        return cls(content_bytes, in_json * size, lists, samples)

    def check_json_bytes(self, given: int) -> None:
        """Refuse JSON of more bytes than the numbers take.

        Raises:
            Malformed: it has more.
        """
        allowed = JSON_TEXT_BYTES + NUMBER_BYTES * self.numbers
        if given > allowed:
            raise Malformed(f"{given} bytes of JSON; at most {allowed} are taken; {_IN_BYTES}")

    def check_json(self, body: bytes, end: int) -> None:
        """Count the marks of a message's JSON, its first `end` bytes, without parsing it.

        Marks inside of texts count as well; an honest header has not enough of them to matter.

        Raises:
            Malformed: it holds more than allowed.
        """
        for mark, more, what in (
            (b",", self.numbers, "elements"),
            (b"[", self.lists, "lists"),
            (b"{", 0, "objects"),
            (b":", 0, "members"),
        ):
            count, allowed = body.count(mark, 0, end), JSON_MEMBERS + more
            if count > allowed:
                raise Malformed(f"JSON of {count} {what}; at most {allowed} are taken; {_IN_BYTES}")


DEFAULT_BOUNDS = Bounds()
_IN_BYTES = "tensors take less room as bytes behind the JSON, with binary_data_size"
