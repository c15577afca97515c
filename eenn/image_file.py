"""Detection of picture files, and removal of their metadata.

Decoders get the bytes that make pixels and nothing else, so an odd tag, comment or profile can
neither make a picture unreadable nor cost time. Only the orientation is read before the metadata
are removed. JPEG, PNG and TIFF are cut here; decoders of the other formats read no metadata that
can fail.
"""

import os
import re
import stat
import struct
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

# Files with these suffixes are taken for pictures; one that is not a picture is an error.
IMAGE_SUFFIXES = frozenset(
    [
        *(".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".bmp", ".gif", ".tif", ".tiff", ".webp"),
        *(".pbm", ".pgm", ".ppm", ".pnm"),
    ]
)
# First bytes of the formats, by the suffix of their files.
_BEGINNINGS = {
    suffix: re.compile(pattern, re.DOTALL)
    for suffix, pattern in {
        ".jpg": rb"\xff\xd8\xff",
        ".png": rb"\x89PNG\r\n\x1a\n",
        ".gif": rb"GIF8[79]a",
        ".tif": rb"II[*+]\0|MM\0\*",
        ".webp": rb"RIFF....WEBP",
        ".bmp": rb"BM.{4}\0{4}",
        ".pnm": rb"P[1-6]\s",
    }.items()
}

MAX_SIDE = 65_535  # the limit of JPEG; decoders keep a pointer for every row
MAX_PARTS = 2**16  # segments, chunks or entries of one file
MAX_SCANS = 100  # of one JPEG; every scan walks through the whole picture
MAX_TEXT_BYTES = 2**20  # of a compressed text, once it is decompressed

_NUMBERS = {3: "H", 4: "L", 16: "Q"}  # struct's letters by TIFF's types
_ORIENTATION, _XMP, _TILE_WIDTH, _TILE_LENGTH = 274, 700, 322, 323
# Size, depth, colours, compression and where strips and tiles lie.
_PIXEL_TAGS = frozenset(
    [
        *(256, 257, 258, 259, 262, 266, 273, 277, 278, 279, 284, 292, 293, 317, 320),
        *(_TILE_WIDTH, _TILE_LENGTH, 324, 325, 338, 339, 347, *range(512, 522), *range(529, 533)),
        50674,
    ]
)
_BYTE_TYPES = frozenset([1, 2, 7])
_PIXEL_CHUNKS = frozenset([b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND"])


def looks_like_image(path: str | os.PathLike[str]) -> bool:
    """Tell whether a file has a picture's suffix or first bytes; folders and pipes never do.

    Raises:
        OSError: the file has another suffix and cannot be read.
    """
    is_called_so = suffix_of(path) in IMAGE_SUFFIXES
    try:
        mode = os.stat(path).st_mode
    except OSError:
        if is_called_so:
            return True  # reading it says what is wrong
        raise
    if is_called_so or not stat.S_ISREG(mode):
        return stat.S_ISREG(mode)  # a pipe would be waited for
    with open(path, "rb") as file:
        return suffix_for(file.read(16)) != ""


def suffix_of(path: str | os.PathLike[str]) -> str:
    """Return a file's suffix in lower case, with its dot."""
    return os.path.splitext(path)[1].lower()


def suffix_for(content: bytes) -> str:
    """Choose a suffix for a picture by its first bytes, 16 at least; empty if they are unknown."""
    return next((own for own, begins in _BEGINNINGS.items() if begins.match(content)), "")


def counted_suffixes(paths: Iterable[str | os.PathLike[str]]) -> str:
    """Word the number of files of each suffix, the most frequent first."""
    counts = Counter(map(suffix_of, paths)).most_common()
    return ", ".join(f"{count} {suffix or 'without a suffix'}" for suffix, count in counts)


@dataclass(frozen=True)
class PictureFile:
    """A picture file without its metadata.

    Args:
        orientation: as in EXIF, 1 to 8; 1 if unknown.
        is_held_whole: the decoder keeps all coefficients of a JPEG in memory, at any scale.
        tile_pixels: of one tile, for which a decoder allocates memory even if the picture is
            smaller.
    """

    data: bytes
    orientation: int = 1
    is_held_whole: bool = False
    tile_pixels: int = 0


def without_metadata(data: bytes) -> PictureFile:
    """Cut a file to what its pixels need, and read its orientation.

    Raises:
        ValueError, struct.error, IndexError: the file is damaged, or has more parts than allowed.
    """
    if data.startswith(b"\xff\xd8\xff"):
        return _jpeg(data)
    if data.startswith(b"\x89PNG\r\n\x1a\n"):
        return _png(data)
    if data[:4] in (b"II*\0", b"MM\0*", b"II+\0"):
        return _tiff(data)
    return PictureFile(data)


def orientation_of(exif: bytes, xmp: bytes = b"") -> int:
    """Read the orientation from an EXIF block, or else from XMP; 1 where neither has one."""
    try:
        order, _, entries = _directory(exif.removeprefix(b"Exif\0\0"))
        for tag, kind, _, entry in entries:
            if tag == _ORIENTATION:
                return _upright_or(_number(order, kind, entry))
    except (struct.error, ValueError):
        pass
    found = re.search(rb'tiff:Orientation(?:="|>)([0-9])', xmp)
    return _upright_or(int(found[1])) if found else 1


def _upright_or(orientation: int) -> int:
    return orientation if 1 <= orientation <= 8 else 1


def _jpeg(data: bytes) -> PictureFile:
    """Drop comments and application segments of a JPEG, but for JFIF and Adobe (colours)."""
    kept, exif, xmp = [data[:2]], b"", b""
    streamed, components = True, 0
    for marker, start, end in _segments(data):
        body = data[start + 4 : end]
        if marker == 0xE1 and body.startswith(b"Exif\0\0"):
            exif += body[6:]
        elif marker == 0xE1 and body.startswith(b"http://ns.adobe.com/xap/1.0/\0"):
            xmp = body
        # Decoders do not recognise either of the two if it is shorter than this.
        says_colours = (marker == 0xE0 and body.startswith(b"JFIF\0") and len(body) >= 14) or (
            marker == 0xEE and body.startswith(b"Adobe") and len(body) >= 12
        )
        if says_colours or not (0xE0 <= marker <= 0xEF or marker == 0xFE):
            kept.append(data[start:end])
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            streamed, components = marker in (0xC0, 0xC1, 0xC9), body[5]
    scan = data[end:]
    if held_whole := not (streamed and body[0] == components):
        # What follows the end of the picture would be counted, too.
        scan = scan[: scan.find(b"\xff\xd9") + 2] if b"\xff\xd9" in scan else scan
        if (scans := scan.count(b"\xff\xda") + 1) > MAX_SCANS:
            raise ValueError(f"a JPEG of {scans} scans; at most {MAX_SCANS} are read")
    return PictureFile(b"".join([*kept, scan]), orientation_of(exif, xmp), held_whole)


def _segments(data: bytes) -> Iterator[tuple[int, int, int]]:
    """Yield marker, start and end of a JPEG's segments, up to the header of the first scan."""
    position = 2
    for _ in range(MAX_PARTS):
        start = data.index(b"\xff", position)
        marker = data[start + 1]
        if marker in (0x00, 0x01, 0xFF) or 0xD0 <= marker <= 0xD9:  # these have no length
            position = start + (1 if marker == 0xFF else 2)
            continue
        position = start + 2 + int.from_bytes(data[start + 2 : start + 4], "big")
        if position > len(data) or position < start + 4:
            raise ValueError("a segment ends after the file")
        yield marker, start, position
        if marker == 0xDA:
            return
    raise ValueError(f"more than {MAX_PARTS} segments")


def _png(data: bytes) -> PictureFile:
    """Keep the chunks of a PNG that make pixels; of an animation, its default picture."""
    kept, exif, xmp = [data[:8]], b"", b""
    position = 8
    for _ in range(MAX_PARTS):
        length, kind = struct.unpack_from(">L4s", data, position)
        body = slice(position + 8, position + 8 + length)
        if kind in _PIXEL_CHUNKS:
            kept.append(data[position : body.stop + 4])
        elif kind == b"eXIf":
            exif = exif or data[body]
        elif kind in (b"tEXt", b"zTXt") and data.startswith(b"Raw profile type exif\0", body.start):
            exif = exif or _raw_profile(kind, data[body].split(b"\0", 1)[1])
        elif kind == b"iTXt" and data.startswith(b"XML:com.adobe.xmp\0", body.start):
            xmp = xmp or _international(data[body])
        position = body.stop + 4
        if kind == b"IEND" or position >= len(data):
            return PictureFile(b"".join(kept), orientation_of(exif, xmp))
    raise ValueError(f"more than {MAX_PARTS} chunks")


def _raw_profile(kind: bytes, text: bytes) -> bytes:
    """Decode EXIF as ImageMagick writes it: a name, a length and hexadecimal digits."""
    try:
        plain = _inflated(text[1:]) if kind == b"zTXt" else text
        return bytes.fromhex(b"".join(plain.split(b"\n")[3:]).decode("ascii"))
    except ValueError:
        return b""


def _international(body: bytes) -> bytes:
    """Decode the text of an iTXt chunk."""
    _, flags = body.split(b"\0", 1)
    text = flags[2:].split(b"\0", 2)[-1]
    return _inflated(text) if flags[:1] == b"\1" else text


def _inflated(text: bytes) -> bytes:
    try:
        return zlib.decompressobj().decompress(text, MAX_TEXT_BYTES)
    except zlib.error:
        return b""


def _tiff(data: bytes) -> PictureFile:
    """Rewrite a TIFF's first directory with the tags of pixels alone; drop later directories."""
    order, start, entries = _directory(data)
    is_big = data[2] == 43
    kept: dict[int, bytes] = {}
    xmp, tile = b"", {_TILE_WIDTH: 0, _TILE_LENGTH: 0}
    for tag, kind, count, entry in entries:
        if tag in kept:
            continue  # of two entries, readers differ in which they use
        if tag in _PIXEL_TAGS:
            if kind not in _BYTE_TYPES and count > 2 * MAX_SIDE:
                raise ValueError(f"{count} values of TIFF tag {tag}")
            kept[tag] = entry
        if tag in tile:
            tile[tag] = _number(order, kind, entry)
        elif tag == _XMP:
            (offset,) = struct.unpack_from(order + "LQ"[is_big], entry, len(entry) // 2 + 2)
            xmp = data[offset : offset + count]
    parts = [
        struct.pack(order + "HQ"[is_big], len(kept)),
        *kept.values(),
        bytes(8 if is_big else 4),
    ]
    directory = b"".join(parts)
    plain = data[:start] + directory + data[start + len(directory) :]
    # The directory has the layout of an EXIF block.
    return PictureFile(
        plain, orientation_of(data, xmp), tile_pixels=tile[_TILE_WIDTH] * tile[_TILE_LENGTH]
    )


_Entry = tuple[int, int, int, bytes]


def _directory(data: bytes) -> tuple[str, int, list[_Entry]]:
    """Read byte order, position and entries (tag, type, count, bytes) of a TIFF's directory."""
    order = ">" if data.startswith(b"MM") else "<"
    is_big = data[2:3] == b"+"
    (start,) = struct.unpack_from(order + ("Q" if is_big else "L"), data, 8 if is_big else 4)
    (entries,) = struct.unpack_from(order + "HQ"[is_big], data, start)
    if entries > MAX_PARTS:
        raise ValueError(f"more than {MAX_PARTS} TIFF tags")
    head, size = (order + "HHQ", 20) if is_big else (order + "HHL", 12)
    first = start + (8 if is_big else 2)
    found = []
    for position in range(first, first + entries * size, size):
        entry = data[position : position + size]
        if len(entry) < size:
            break
        found.append((*struct.unpack_from(head, entry), entry))
    return order, start, found


def _number(order: str, kind: int, entry: bytes) -> int:
    """Read the first value of a TIFF entry of an unsigned integer type."""
    if kind not in _NUMBERS:
        raise ValueError(f"a TIFF number of type {kind}")
    return int(struct.unpack_from(order + _NUMBERS[kind], entry, 12 if len(entry) == 20 else 8)[0])
