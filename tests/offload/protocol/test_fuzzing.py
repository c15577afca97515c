"""The first of the inputs that `python -m benchmarks.fuzz` draws for messages, in brief."""

from collections.abc import Callable
from random import Random

import pytest

from benchmarks.fuzzing import requests


@pytest.mark.parametrize(
    ("target", "inputs"),
    [
        (requests.request_bytes, 500),
        (requests.response_bytes, 300),
        (requests.json_of_many_parts, 50),
    ],
)
def test_whatever_is_drawn_is_decoded_or_refused(
    target: Callable[[Random], None], inputs: int
) -> None:
    for seed in range(inputs):
        target(Random(seed))
