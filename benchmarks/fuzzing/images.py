"""Pictures that others made or damaged: read as their clean twins, or refused in one way."""

import struct
import zlib
from functools import cache
from io import BytesIO
from random import Random

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from eenn.preprocess import UnreadableImage, decoded_pixels, read_image

Pixels = NDArray[np.uint8]

# Format, mode and further options with which Pillow saves the pictures that are damaged.
KINDS: tuple[tuple[str, str, dict[str, object]], ...] = (
    ("JPEG", "RGB", {}),
    ("JPEG", "L", {"progressive": True}),
    ("JPEG", "CMYK", {"progressive": True}),
    ("PNG", "RGB", {}),
    ("PNG", "LA", {}),
    ("PNG", "I;16", {"transparency": 7}),
    ("PNG", "P", {"transparency": bytes(range(0, 250, 5))}),
    ("WEBP", "RGBA", {"lossless": True}),
    ("WEBP", "RGB", {}),
    ("GIF", "P", {"transparency": 3}),
    ("BMP", "RGB", {}),
    ("BMP", "P", {}),
    ("TIFF", "RGB", {}),
    ("TIFF", "RGBA", {"compression": "tiff_lzw"}),
    ("TIFF", "L", {"compression": "jpeg"}),
    ("TIFF", "P", {"compression": "packbits"}),
    ("TIFF", "1", {"compression": "group4"}),
    ("TIFF", "I;16", {"compression": "tiff_deflate"}),
    ("PPM", "RGB", {}),
    ("PPM", "I;16", {}),
)


def image_bytes(random: Random) -> None:
    """Read a picture with some bytes changed, cut out, doubled or cut off."""
    damaged = BytesIO(_damaged(_saved(random.randrange(len(KINDS))), random))
    try:
        pixels = decoded_pixels(damaged, 16)
        image = read_image(damaged, 16)
    except UnreadableImage as error:
        if "\n" in str(error):
            raise AssertionError(f"an error of several lines: {error}") from error
        return
    if image.mode != "RGB" or image.width * image.height > pixels:
        raise AssertionError(f"{image.mode} of {image.size} where {pixels} pixels were expected")


def exif_blocks(random: Random) -> None:
    """Read a picture with an odd EXIF block: pixels are the clean twin's, at most turned."""
    directory = struct.pack("<HHLHH", 274, 3, 1, random.randrange(10), 0)
    for _ in range(random.randrange(6)):
        directory += _odd_tag(random)
    exif = b"II*\0\x08\0\0\0" + struct.pack("<H", len(directory) // 12) + directory + bytes(4)
    exif += random.randbytes(random.randrange(40))
    if random.random() < 0.7:
        exif = _damaged(exif, random)
    kind = random.choice((0, 3, 8))
    data, name = _saved(kind), KINDS[kind][0]
    if name == "JPEG":
        segment = b"Exif\0\0" + exif
        data = data[:2] + b"\xff\xe1" + struct.pack(">H", len(segment) + 2) + segment + data[2:]
    elif name == "PNG":
        crc = zlib.crc32(b"eXIf" + exif) + (random.random() < 0.2)
        chunk = struct.pack(">L", len(exif)) + b"eXIf" + exif + struct.pack(">L", crc % 2**32)
        place = random.choice((33, len(data) - 12))  # after IHDR or before IEND
        data = data[:place] + chunk + data[place:]
    else:
        exif += bytes(len(exif) % 2)
        extended = b"VP8X" + struct.pack("<LLHBHB", 10, 8, 23, 0, 15, 0)  # 24 x 16, with EXIF
        chunks = extended + data[12:] + b"EXIF" + struct.pack("<L", len(exif)) + exif
        data = b"RIFF" + struct.pack("<L", len(chunks) + 4) + b"WEBP" + chunks
    _require_turned(data, kind)


def tiff_tags(random: Random) -> None:
    """Read a TIFF with odd tags that its pixels do not need."""
    kind = random.choice([number for number, (name, *_) in enumerate(KINDS) if name == "TIFF"])
    data = _saved(kind)
    (start,) = struct.unpack_from("<L", data, 4)
    (count,) = struct.unpack_from("<H", data, start)
    entries = [data[at : at + 12] for at in range(start + 2, start + 2 + 12 * count, 12)]
    entries += [_odd_tag(random) for _ in range(random.randint(1, 6))]
    entries.sort(key=lambda entry: struct.unpack_from("<H", entry))
    directory = struct.pack("<H", len(entries)) + b"".join(entries) + random.randbytes(4)
    _require_turned(data[:4] + struct.pack("<L", len(data)) + data[8:] + directory, kind)


def _odd_tag(random: Random) -> bytes:
    """Write an entry of any type and length for a tag that does not concern pixels."""
    tag = random.choice((270, 271, 274, 282, 283, 296, 305, 306, 315, 700, 33723, 34665, 34853, 7))
    number = random.choice((0, 1, 2, 6, 2**16, 2**31, 2**32 - 1, random.getrandbits(32)))
    return struct.pack("<HHLL", tag, random.randrange(20), random.choice((1, 2, number)), number)


def _require_turned(data: bytes, kind: int) -> None:
    found = np.asarray(read_image(BytesIO(data)))
    twin = np.asarray(read_image(BytesIO(_saved(kind))))
    turned = [np.rot90(side, turns) for side in (twin, twin[::-1]) for turns in range(4)]
    if not any(np.array_equal(found, pixels) for pixels in turned):
        raise AssertionError(f"metadata changed pixels of {KINDS[kind]}")


@cache
def _saved(kind: int) -> bytes:
    """Save a picture of 24 x 16 pixels, as the format needs it."""
    name, mode, options = KINDS[kind]
    noise = np.random.default_rng(0).integers(0, 256, (16, 24, 4), np.uint8)
    image = Image.fromarray(noise).convert("RGB" if mode in ("I;16", "LA", "CMYK") else mode)
    if mode == "I;16":
        image = Image.fromarray(noise.view(np.uint16)[..., 0].copy())
    saved = BytesIO()
    image.convert(mode).save(saved, name, **options)
    return saved.getvalue()


def _damaged(data: bytes, random: Random) -> bytes:
    """Change a few bytes, most of them near the start; cut out, double or cut off others."""
    damaged = bytearray(data)
    for _ in range(random.randint(1, 4)):
        reach = len(damaged) if random.random() < 0.3 else min(len(damaged), 200)
        at = random.randrange(max(reach, 1))
        how = random.random()
        if how < 0.7:
            damaged[at : at + 1] = bytes([random.choice((0, 1, 127, 255, random.getrandbits(8)))])
        elif how < 0.8:
            damaged[at : at + 4] = random.choice((b"\xff" * 4, bytes(4), b"\x7f\xff\xff\xff"))
        elif how < 0.9:
            del damaged[at : at + random.randint(1, 20)]
        else:
            damaged[at:at] = damaged[at : at + random.randint(1, 20)]
    if random.random() < 0.2:
        del damaged[random.randrange(len(damaged) + 1) :]
    return bytes(damaged)
