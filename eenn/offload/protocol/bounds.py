"""Bounds on the content of a message: bytes, numbers, lists, files, members and texts."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from eenn.offload.protocol.wire import Malformed

# The json module holds the interpreter's lock until it has parsed the last number; this many
# numbers take about 20 ms on the machine of results/attacks.json.
JSON_NUMBERS = 2**16
# A number as text, with a comma and a space.
NUMBER_BYTES = 32
# Members of JSON objects and bytes of their texts, beside numbers; a normal header has about twenty
# members.
JSON_MEMBERS, JSON_TEXT_BYTES = 1024, 2**16
# The reply repeats the id; a UUID has 36 characters.
ID_CHARACTERS = 256


@dataclass(frozen=True)
class Bounds:
    """Limits of a receiver, checked against a message before any of it is parsed.

    Args:
        content_bytes: bytes of a message, decompressed.
        numbers: numbers of tensors written as JSON; `lists` is the number of lists around them.
        files: elements of all BYTES tensors together.
    """

    content_bytes: int = 64 * 2**20
    numbers: int = JSON_NUMBERS
    lists: int = JSON_NUMBERS
    files: int = 128

    @classmethod
    def of_files(cls, content_bytes: int, samples: int) -> "Bounds":
        """Make the bounds of requests with up to `samples` files, which JSON cannot hold."""
        return cls(content_bytes, numbers=0, lists=0, files=samples)

    @classmethod
    def of_features(cls, content_bytes: int, samples: int, shape: Sequence[int]) -> "Bounds":
        """Make the bounds of requests with up to `samples` samples of features, each of `shape`.

        JSON may hold samples of up to JSON_NUMBERS numbers together, and one sample of any size.
        """
        size = math.prod(shape)
        in_json = max(1, min(samples, JSON_NUMBERS // size))
        lists = in_json * sum(math.prod(shape[:depth]) for depth in range(len(shape)))
        return cls(content_bytes, in_json * size, lists, samples)

    def check_json_bytes(self, given: int) -> None:
        """Check that JSON does not have more bytes than its numbers can take.

        Raises:
            Malformed: the JSON has more bytes.
        """
        allowed = JSON_TEXT_BYTES + NUMBER_BYTES * self.numbers
        if given > allowed:
            raise Malformed(f"{given} bytes of JSON; at most {allowed} are taken; {_IN_BYTES}")

    def check_json(self, body: bytes, end: int) -> None:
        """Check the number of marks in a message's JSON, its first `end` bytes, without parsing it.

        Marks inside of texts count as well; a normal header has too few of them to matter.

        Raises:
            Malformed: the JSON holds more than allowed.
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
