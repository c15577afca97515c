"""The values of arguments of `eenn-edge`: each function reads one from its text.

They raise ArgumentTypeError, which names the text and what is allowed.
"""

import argparse
import math
import re

from eenn.artifact.guard_settings import GuardSettings
from eenn.errors import EennError
from eenn.planning.costs import Link

# The value of --guard that turns a deployment file's guard off.
OFF = "off"
MOST_IN_FLIGHT = 16
LONGEST = 6  # digits of a number of threads, blocks or plans


def branches_of(text: str) -> tuple[int, ...]:
    if text == "none":
        return ()
    try:
        return tuple(int(branch) for branch in text.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"{text}: allowed are branches counted from 1, such as 1,2,3, or none"
        ) from None


def thresholds_of(text: str) -> tuple[float, ...]:
    try:
        return tuple(float(threshold) for threshold in text.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"{text}: allowed are thresholds from 0 to 1, one for every exit, such as 0.9,0.8,0.7"
        ) from None


def guard_of(text: str) -> GuardSettings | str:
    try:
        return OFF if text == OFF else GuardSettings.parse(text)
    except EennError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def size_of(text: str) -> int:
    """Parse a size such as 500MB or 1.5GiB; return bytes, 1 or more."""
    read = re.fullmatch(r"(\d{1,9}(?:\.\d{1,9})?) ?([kKMGT])(i?)B", text, re.ASCII)
    size = 0.0
    if read:
        size = float(read[1]) * (1024 if read[3] else 1000) ** (1 + "KMGT".index(read[2].upper()))
    if size < 1:
        raise argparse.ArgumentTypeError(f"{text}: allowed are sizes such as 500MB, 2GB or 64MiB")
    return int(size)


def positive_of(text: str) -> float:
    if not text.replace(".", "", 1).isdecimal() or not 0 < float(text) < math.inf:
        raise argparse.ArgumentTypeError(f"{text}: allowed is a number above 0")
    return float(text)


def link_of(text: str) -> Link:
    try:
        return Link.parse(text)
    except EennError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def blocks_of(text: str) -> int:
    if not text.isdecimal() or len(text) > LONGEST:
        raise argparse.ArgumentTypeError(f"{text:.80}: allowed is a number of blocks")
    return int(text)


def whole_of(text: str) -> int:
    if not text.isdecimal() or len(text) > LONGEST or int(text) < 1:
        raise argparse.ArgumentTypeError(
            f"{text:.80}: allowed is a whole number, 1 or more, of at most {LONGEST} digits"
        )
    return int(text)


def in_flight_of(text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= MOST_IN_FLIGHT:
        raise argparse.ArgumentTypeError(
            f"{text}: allowed is a whole number from 1 to {MOST_IN_FLIGHT}"
        )
    return int(text)
