"""Odd picture files: good ones with the pixels they show, and bad ones that nobody can read.

They are written byte by byte where a library would write something sound.
"""

import struct
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from io import BytesIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageCms

Pixels = NDArray[np.uint8]
RGB: Pixels = np.random.default_rng(0).integers(0, 256, (40, 36, 3), np.uint8)
GREY: Pixels = RGB[..., 0]
DEEP = (GREY.astype(np.uint16) << 8) + RGB[..., 1]


@dataclass(frozen=True)
class Odd:
    """A good file; `pixels` are what it shows, RGB or grey, to within `tolerance`."""

    data: bytes
    pixels: Pixels
    tolerance: int = 0

    @property
    def twin(self) -> bytes:
        """The same picture as a file without anything odd."""
        return saved(Image.fromarray(self.pixels).convert("RGB"), "PNG")


def saved(image: Image.Image, file_format: str, **options: object) -> bytes:
    """The image as a file of that format, as Pillow writes it."""
    file = BytesIO()
    image.save(file, file_format, **options)
    return file.getvalue()


def png(
    depth: int, colour: int, rows: Iterable[bytes], *chunks: bytes, size: tuple[int, int] = (36, 40)
) -> bytes:
    """A PNG of those rows, with `chunks` before its pixels."""
    header = struct.pack(">LLBBBBB", *size, depth, colour, 0, 0, 0)
    pixels = zlib.compress(b"".join(b"\0" + row for row in rows))
    parts = [chunk(b"IHDR", header), *chunks, chunk(b"IDAT", pixels), chunk(b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def chunk(kind: bytes, body: bytes, crc: int | None = None) -> bytes:
    """One chunk of a PNG."""
    own = zlib.crc32(kind + body) if crc is None else crc
    return struct.pack(">L", len(body)) + kind + body + struct.pack(">L", own)


def plain_png(*chunks: bytes, end: bytes = b"") -> bytes:
    """An RGB picture with these chunks before its pixels, and `end` after them."""
    data = png(8, 2, [row.tobytes() for row in RGB], *chunks)
    return data[:-12] + end + data[-12:]


def tag(number: int, kind: int, count: int, value: int) -> bytes:
    """One entry of a little-endian TIFF directory."""
    return struct.pack("<HHLL", number, kind, count, value)


def exif(*entries: bytes, after: bytes = b"") -> bytes:
    """An EXIF block of these entries."""
    return (
        b"II*\0\x08\0\0\0" + struct.pack("<H", len(entries)) + b"".join(entries) + bytes(4) + after
    )


def tiff(pixels: bytes, *entries: bytes, size: tuple[int, int] = (36, 40)) -> bytes:
    """An uncompressed TIFF of one strip; `entries` stand for or beside those of 8-bit greyscale."""
    own = {
        256: tag(256, 4, 1, size[0]),
        257: tag(257, 4, 1, size[1]),
        258: tag(258, 3, 1, 8),
        259: tag(259, 3, 1, 1),
        262: tag(262, 3, 1, 1),
        273: tag(273, 4, 1, 8),
        277: tag(277, 3, 1, 1),
        278: tag(278, 4, 1, size[1]),
        279: tag(279, 4, 1, len(pixels)),
    }
    own |= {struct.unpack_from("<H", entry)[0]: entry for entry in entries}
    directory = struct.pack("<H", len(own)) + b"".join(own[number] for number in sorted(own))
    start = 8 + len(pixels)
    return b"II*\0" + struct.pack("<L", start) + pixels + directory + bytes(4)


def with_segments(jpeg: bytes, *segments: tuple[int, bytes]) -> bytes:
    """A JPEG with segments after its start."""
    added = b"".join(
        bytes([0xFF, marker]) + struct.pack(">H", len(body) + 2) + body for marker, body in segments
    )
    return jpeg[:2] + added + jpeg[2:]


def webp(pixels: Pixels, block: bytes) -> bytes:
    """A lossless WebP with an EXIF block."""
    plain = saved(Image.fromarray(pixels), "WEBP", lossless=True)
    height, width = pixels.shape[:2]
    head = struct.pack("<LLHBHB", 10, 8, width - 1, 0, height - 1, 0)
    block += bytes(len(block) % 2)
    chunks = b"VP8X" + head + plain[12:] + b"EXIF" + struct.pack("<L", len(block)) + block
    return b"RIFF" + struct.pack("<L", len(chunks) + 4) + b"WEBP" + chunks


def on_white(colour: NDArray[np.generic], alpha: NDArray[np.generic]) -> Pixels:
    """The colours over white, as transparency is defined; alpha from 0 to 255."""
    share = alpha[..., None] / 255
    return np.rint(colour * share + 255 * (1 - share)).astype(np.uint8)


TURNED = np.rot90(RGB, -1)  # orientation 6
UPRIGHT_TAG = tag(274, 3, 1, 6)
# Tags that break a reader of all metadata.
ODD_BLOCKS = {
    "signed_rational": exif(tag(282, 10, 1, 38), UPRIGHT_TAG, after=struct.pack("<ll", -72, -1)),
    "wrong_types": exif(tag(271, 13, 7, 5), UPRIGHT_TAG, tag(282, 2, 1, 5), tag(296, 12, 9, 1)),
    "long_type": exif(tag(274, 4, 1, 6)),
    "offset_after_the_end": exif(tag(271, 2, 900, 60_000), UPRIGHT_TAG),
    "cut_off": exif(UPRIGHT_TAG, tag(305, 2, 4, 0))[:26],
    "loop": exif(UPRIGHT_TAG, tag(34665, 4, 1, 8), tag(34853, 4, 1, 8)),
    "huge_count": exif(UPRIGHT_TAG, tag(305, 5, 2**32 - 1, 8)),
    "many": exif(UPRIGHT_TAG, *[tag(40_000 + n, 12, 1, 2**31) for n in range(2000)]),
}
UNKNOWN_BLOCKS = {
    "empty": b"",
    "noise": bytes(range(256)),
    "no_such_orientation": exif(tag(274, 3, 1, 99)),
    "orientation_as_text": exif(tag(274, 2, 2, 0x36)),
    "directory_outside": b"MM\0*\xff\xff\xff\xff",
}


def with_metadata() -> Iterator[tuple[str, Odd]]:
    """Pictures whose metadata is odd, with the orientation that it has all the same."""
    plain = saved(Image.fromarray(RGB), "JPEG", quality=95)
    with Image.open(BytesIO(plain)) as image:
        shown = np.asarray(image.convert("RGB"))
    for blocks, turn in ((ODD_BLOCKS, -1), (UNKNOWN_BLOCKS, 0)):
        for name, block in blocks.items():
            jpeg = with_segments(plain, (0xE1, b"Exif\0\0" + block))
            yield f"{name}.jpg", Odd(jpeg, np.rot90(shown, turn))
            yield f"{name}.png", Odd(plain_png(chunk(b"eXIf", block)), np.rot90(RGB, turn))
            yield f"{name}.webp", Odd(webp(RGB, block), np.rot90(RGB, turn))
    block = ODD_BLOCKS["signed_rational"]
    late = plain_png(end=chunk(b"eXIf", block))
    digits = f"\nexif\n{len(block) + 6:8}\n{(b'Exif' + bytes(2) + block).hex()}\n".encode()
    raw = chunk(b"zTXt", b"Raw profile type exif\0\0" + zlib.compress(digits))
    xmp = b'<x tiff:Orientation="6"/>'
    text = chunk(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + xmp)
    yield "late.png", Odd(late, TURNED)
    yield "raw_profile.png", Odd(plain_png(raw), TURNED)
    yield "xmp.png", Odd(plain_png(text), TURNED)
    yield "broken_checksum.png", Odd(plain_png(chunk(b"eXIf", block, crc=1)), TURNED)
    bomb = zlib.compress(bytes(2**24))
    for kind, head in ((b"zTXt", b"a\0\0"), (b"iCCP", b"a\0\0"), (b"iTXt", b"a\0\1\0\0\0")):
        name = f"bomb_in_{kind.decode()}.png"
        yield name, Odd(plain_png(*[chunk(kind, head + bomb)] * 200), RGB)
    yield "unknown_text.png", Odd(plain_png(chunk(b"zTXt", b"a\0\7")), RGB)
    namespace = b"http://ns.adobe.com/xap/1.0/\0"
    yield "xmp.jpg", Odd(with_segments(plain, (0xE1, namespace + xmp)), np.rot90(shown, -1))
    for name, segment in (
        ("short_profile", (0xE2, b"ICC_PROFILE\0")),
        ("broken_index", (0xE2, b"MPF\0" + exif(tag(0xB001, 4, 1, 9)))),
        ("short_jfif", (0xE0, b"JFIF")),
        ("photoshop", (0xED, b"Photoshop 3.0\0" + b"8BIM\3\xed\0\0\xff\xff\xff\xff")),
        ("comment", (0xFE, b"\x1b[31m" * 9)),
    ):
        yield f"{name}.jpg", Odd(with_segments(plain, segment), shown)
    yield "junk.jpg", Odd(plain[:2] + b"\xff" * 9 + plain[3:], shown)
    odd = [tag(282, 10, 1, 0), UPRIGHT_TAG, tag(34853, 4, 1, 8), tag(700, 2, 9, 10**9)]
    yield "tags.tiff", Odd(tiff(GREY.tobytes(), *odd), np.rot90(GREY, -1))


def deep() -> Iterator[tuple[str, Odd]]:
    """Greyscale of more or less than 8 bits, which is scaled."""
    rows = [row.astype(">u2").tobytes() for row in DEEP]
    keyed = np.where(DEEP[3, 5] == DEEP, 255, GREY).astype(np.uint8)
    key = chunk(b"tRNS", struct.pack(">H", int(DEEP[3, 5])))
    little = DEEP.astype("<u2").tobytes()
    yield "deep.png", Odd(png(16, 0, rows), GREY)
    yield "deep_transparent.png", Odd(png(16, 0, rows, key), keyed)
    yield "deep.pgm", Odd(b"P5 36 40 65535\n" + b"".join(rows), GREY)
    tenth = (DEEP >> 6).astype(">u2").tobytes()
    yield "ten_bits.pgm", Odd(b"P5\n# 10 bits\n36 40\n1023\n" + tenth, GREY, 1)
    yield "plain.pgm", Odd(b"P2 36 40 255 " + b" ".join(b"%d" % v for v in GREY.flat), GREY)
    yield "deep.tiff", Odd(tiff(little, tag(258, 3, 1, 16)), GREY)
    white = tag(262, 3, 1, 0)
    inverted = (65535 - DEEP).astype("<u2").tobytes()
    yield "white_is_zero.tiff", Odd(tiff(inverted, tag(258, 3, 1, 16), white), GREY)
    yield "white_is_zero8.tiff", Odd(tiff((255 - GREY).tobytes(), white), GREY)
    twelve = DEEP.reshape(-1, 2).astype(np.uint32) >> 4
    joined = (twelve[:, 0] << 12 | twelve[:, 1]).astype(">u4").tobytes()
    packed = np.frombuffer(joined, np.uint8).reshape(-1, 4)[:, 1:].tobytes()
    yield "twelve_bits.tiff", Odd(tiff(packed, tag(258, 3, 1, 12)), GREY)
    for bits in (1, 2, 4):
        shallow = GREY >> (8 - bits)
        spread = np.unpackbits(shallow[..., None], axis=-1)[..., -bits:].reshape(40, -1)
        scaled = shallow * (255 // (2**bits - 1))
        key = chunk(b"tRNS", struct.pack(">H", 1))
        shallow_rows = [row.tobytes() for row in np.packbits(spread, axis=-1)]
        yield f"{bits}_bits.png", Odd(png(bits, 0, shallow_rows), scaled)
        shown = np.where(shallow == 1, 255, scaled).astype(np.uint8)
        yield f"{bits}_bits_transparent.png", Odd(png(bits, 0, shallow_rows, key), shown)
    wide = (RGB.astype(np.uint16) << 8) + 7
    key = chunk(b"tRNS", struct.pack(">3H", *wide[2, 9].tolist()))
    shown = np.where((RGB[2, 9] == RGB).all(-1, keepdims=True), 255, RGB).astype(np.uint8)
    yield "wide.png", Odd(png(16, 2, [row.astype(">u2").tobytes() for row in wide], key), shown)


def coloured() -> Iterator[tuple[str, Odd]]:
    """Transparency in every form, and colours that are not RGB."""
    alpha, image = RGB[..., 1], Image.fromarray(RGB)
    la = np.stack([GREY, alpha], -1)
    rgba = np.dstack([RGB, RGB[..., 2]])
    on = {"extra": tag(338, 3, 1, 2), "two": tag(258, 3, 2, 8 | 8 << 16), "spp": tag(277, 3, 1, 2)}
    grey3 = np.repeat(GREY[..., None], 3, -1)
    yield "la.png", Odd(png(8, 4, [row.tobytes() for row in la]), on_white(grey3, alpha), 1)
    yield "la.tiff", Odd(tiff(la.tobytes(), *on.values()), on_white(grey3, alpha), 1)
    premultiplied = np.stack([np.rint(GREY * (alpha / 255)), alpha], -1).astype(np.uint8)
    entries = [on["two"], on["spp"], tag(338, 3, 1, 1)]
    yield (
        "la_premultiplied.tiff",
        Odd(tiff(premultiplied.tobytes(), *entries), on_white(grey3, alpha), 2),
    )
    shown = on_white(RGB, RGB[..., 2])
    yield "rgba.png", Odd(png(8, 6, [row.tobytes() for row in rgba]), shown, 1)
    lossless = saved(Image.fromarray(rgba), "WEBP", lossless=True, exact=True)
    yield "rgba.webp", Odd(lossless, shown, 1)
    yield "rgba.tiff", Odd(saved(Image.fromarray(rgba), "TIFF", compression="tiff_lzw"), shown, 1)
    palette = np.random.default_rng(1).integers(0, 256, (256, 3), np.uint8)
    alphas = np.arange(256, dtype=np.uint8)[::-1]
    indexed = Image.fromarray(GREY)
    indexed.putpalette(palette.tobytes())
    looked_up = on_white(palette[GREY], alphas[GREY])
    yield "palette.png", Odd(saved(indexed, "PNG", transparency=alphas.tobytes()), looked_up, 1)
    key = np.where((GREY == 9)[..., None], 255, palette[GREY]).astype(np.uint8)
    yield "palette.gif", Odd(saved(indexed, "GIF", transparency=9), key)
    pa = indexed.convert("PA")
    pa.putalpha(Image.fromarray(alpha))
    yield "palette_alpha.tiff", Odd(saved(pa, "TIFF"), on_white(palette[GREY], alpha), 1)
    inks = np.dstack([RGB, GREY // 2]).astype(float)
    printed = np.rint((255 - inks[..., :3]) * (255 - inks[..., 3:]) / 255).astype(np.uint8)
    cmyk = Image.frombytes("CMYK", (36, 40), inks.astype(np.uint8).tobytes())
    yield "cmyk.tiff", Odd(saved(cmyk, "TIFF"), printed, 1)
    yield "ycbcr.tiff", Odd(saved(image.convert("YCbCr"), "TIFF"), RGB, 3)
    soft = Image.fromarray(RGB // 4 + 96)  # within the gamut
    profiles = ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB")
    lab = ImageCms.buildTransform(*profiles, "RGB", "LAB").apply(soft)
    yield "lab.tiff", Odd(saved(lab, "TIFF"), np.asarray(soft), 4)
    bits = Image.fromarray(GREY > 99)
    black_white = np.where(GREY > 99, 255, 0).astype(np.uint8)
    for name in ("PNG", "TIFF", "BMP", "PPM"):
        options = {"compression": "group4"} if name == "TIFF" else {}
        yield f"bits.{name.lower()}", Odd(saved(bits, name, **options), black_white)


def of_many_frames() -> Iterator[tuple[str, Odd]]:
    """Animations and pages, of which the first is shown, and names that say nothing."""
    image, other = Image.fromarray(RGB), Image.fromarray(255 - RGB)
    jpeg = saved(image, "JPEG")
    with Image.open(BytesIO(jpeg)) as opened:
        decoded = np.asarray(opened.convert("RGB"))
    for name in ("PNG", "TIFF", "WEBP", "MPO"):
        lossless = {"lossless": True} if name == "WEBP" else {}
        frames = saved(image, name, save_all=True, append_images=[other], **lossless)
        yield f"frames.{name.lower()}", Odd(frames, decoded if name == "MPO" else RGB)
    grey = Image.fromarray(GREY)
    frames = saved(grey, "GIF", save_all=True, append_images=[Image.fromarray(255 - GREY)])
    yield "frames.gif", Odd(frames, GREY)
    yield "without_suffix", Odd(plain_png(), RGB)
    yield "picture.jfif", Odd(jpeg, decoded)


@cache
def good() -> dict[str, Odd]:
    """Every odd picture that can be read, by file name."""
    return dict([*with_metadata(), *deep(), *coloured(), *of_many_frames()])


def large() -> Iterator[tuple[str, bytes]]:
    """Small files that would take gigabytes or minutes, if anybody believed them."""
    rows = [b"\0"] * 3
    yield "narrow.png", png(8, 0, rows, size=(1, 50_000_000))
    yield "wide.png", png(8, 0, rows, size=(50_000_000, 1))
    yield "palette.png", png(8, 3, rows, chunk(b"PLTE", bytes(768)), size=(13_000, 13_000))
    yield "narrow.tiff", tiff(bytes(99), size=(1, 134_228_553))
    yield "square.tiff", tiff(bytes(99), size=(60_000, 60_000))
    tiled = [tag(322, 4, 1, 60_000), tag(323, 4, 1, 30_000), tag(324, 4, 1, 8), tag(325, 4, 1, 9)]
    yield "tile.tiff", tiff(bytes(99), *tiled, tag(259, 3, 1, 8))
    offsets = np.full(2**20, 8, "<u4").tobytes()
    yield "strips.tiff", tiff(offsets, tag(273, 4, 2**20, 8), tag(278, 4, 1, 1), size=(9, 60_000))
    yield "width.tiff", tiff(offsets, tag(256, 4, 2**20, 8))
    jpeg = saved(Image.new("RGB", (16, 16)), "JPEG")
    frame = jpeg.index(b"\xff\xc0")
    for name, size, marker in (
        ("square.jpg", (65_000, 65_000), 0xC0),
        ("progressive.jpg", (16_320, 12_240), 0xC2),
    ):
        head = jpeg[:frame] + bytes([0xFF, marker]) + jpeg[frame + 2 : frame + 5]
        yield name, head + struct.pack(">HH", *size) + jpeg[frame + 9 :]
    scan = jpeg.index(b"\xff\xda")
    alone = jpeg[:scan] + b"\xff\xda\0\x08\1\1\0\0\x3f\0" + jpeg[scan + 14 :]
    size = struct.pack(">HH", 16_320, 12_240)
    yield "by_channel.jpg", alone[: frame + 5] + size + alone[frame + 9 :]
    progressive = saved(Image.fromarray(RGB), "JPEG", progressive=True)
    last = progressive.rindex(b"\xff\xda")
    yield "scans.jpg", progressive[:last] + progressive[last:-2] * 5_000 + progressive[-2:]
    yield "segments.jpg", with_segments(jpeg, *[(0xFE, b"")] * 2**18)
    yield "junk.jpg", jpeg[:2] + b"\xff\1" * 2**21
    yield "chunks.png", plain_png(chunk(b"prVt", b"") * 2**18)
    grey = saved(Image.fromarray(GREY), "GIF")
    screen = 13 + 3 * 256  # after the head and its colours
    comments = b"!\xfe" + b"\2ab" * 2**20 + b"\0"
    yield "comments.gif", grey[:screen] + comments + grey[screen:]
    yield "frame.gif", grey[:6] + struct.pack("<HH", 65_535, 65_535) + grey[10:]
    yield "comment.pgm", b"P5\n#" + bytes(2**22) + b"\n36 40\n255\n" + GREY.tobytes()
    yield "slow.pgm", b"P5 3000 3000 254\n" + bytes(9_000_000)
    picture = bytearray(saved(Image.new("RGB", (9, 9)), "WEBP", lossless=True))
    picture[21:25] = struct.pack("<L", 9_999 | 9_999 << 14)  # a side less one, in 14 bits each
    yield "canvas.webp", bytes(picture)
    bitmap = saved(Image.fromarray(GREY), "BMP")
    yield "square.bmp", bitmap[:18] + struct.pack("<ll", 60_000, 60_000) + bitmap[26:]


def foreign() -> Iterator[tuple[str, bytes]]:
    """Files of no format that is taken, of no known range, or torn."""
    image = Image.fromarray(RGB)
    yield "postscript.jpg", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\nshowpage\n"
    yield "page.jpg", b"<html>404 Not Found</html>"
    yield "empty.jpg", b""
    yield "start.jpg", b"\xff\xd8\xff"
    for name in ("DDS", "TGA", "PCX", "ICO", "SGI", "JPEG2000", "PDF"):
        yield f"{name.lower()}.png", saved(image, name)
    for name in ("JPEG", "PNG", "TIFF", "WEBP", "BMP"):
        whole = saved(image, name)
        yield f"half.{name.lower()}", whole[: len(whole) // 2]
    half = saved(Image.fromarray(GREY), "GIF")
    yield "half.gif", half[: len(half) // 2]
    yield "half.pgm", b"P5 36 40 255\n" + GREY.tobytes()[:700]
    values = np.linspace(0, 1, GREY.size, dtype="<f4").tobytes()
    yield "float.tiff", tiff(values, tag(258, 3, 1, 32), tag(339, 3, 1, 3))
    yield "float.pfm", b"Pf 36 40 -1\n" + values
    for bits in (8, 16, 32):
        samples = bytes(GREY.size * bits // 8)
        yield f"signed{bits}.tiff", tiff(samples, tag(258, 3, 1, bits), tag(339, 3, 1, 2))
    yield "unsigned32.tiff", tiff(bytes(GREY.size * 4), tag(258, 3, 1, 32))
    yield "unknown_mode.tiff", tiff(GREY.tobytes(), tag(258, 3, 1, 7))


@cache
def bad() -> dict[str, bytes]:
    """Every file that is refused, by file name."""
    return {f"bad_{name}": data for name, data in (*large(), *foreign())}
