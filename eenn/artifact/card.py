"""The model card of an artifact, `MODEL_CARD.md`, made from its manifest and its test results.

It is written beside the manifest and not listed there: people add what they know about the use of
the network, and an artifact without a card, or with an edited one, is the same network.
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from eenn.artifact.manifest import Manifest
from eenn.cli import printable
from eenn.exits.head_sets import FINE_TUNED
from eenn.files import write_file
from eenn.models.architecture import branches_text, exit_macs
from eenn.models.own_code.trust import CUSTOM
from eenn.statistics.intervals import share

CARD = "MODEL_CARD.md"
NOT_STATED = "not stated"


@dataclass(frozen=True)
class ExitResults:
    """Results of every exit on a test split.

    Args:
        samples: images of the split.
        accuracy: shares in [0, 1].
        ece, ece_calibrated: expected calibration errors in [0, 1], before and after temperatures.
    """

    samples: int
    accuracy: Sequence[float]
    ece: Sequence[float]
    ece_calibrated: Sequence[float]


def write_card(manifest: Manifest, tested: ExitResults | None = None) -> None:
    """Write the card of an artifact into its directory, in place of the one that is there.

    Args:
        tested: None where no test split was asked; the card then has validation results alone.
    """
    write_file(manifest.path / CARD, card(manifest, tested))


def card(manifest: Manifest, tested: ExitResults | None = None) -> str:
    """Word the model card of an artifact, as Markdown."""
    sections = {
        "Data and licences": _data(manifest),
        "Accuracy": _accuracy(manifest, tested),
        "Calibration": _calibration(manifest, tested),
        "Experts": _experts(manifest),
        "Limits": _limits(manifest, tested),
        "Preprocessing": _preprocessing(manifest),
        "How it was made": _making(manifest),
        "Files": _files(manifest),
        "Classes": _classes(manifest),
    }
    written = {title: "\n".join(lines) for title, lines in sections.items()}
    parts = [f"## {title}\n\n{text}" for title, text in written.items() if text]
    return "\n\n".join([_head(manifest), *parts]) + "\n"


def _head(manifest: Manifest) -> str:
    architecture = manifest.architecture
    after = ", ".join(map(str, architecture.positions))
    count = len(architecture.positions)
    branches = branches_text(count)
    if count:
        branches += f" ({plain(architecture.head)} heads, after blocks {after})"
    source, _, _ = architecture.backbone.partition("/")
    code = (
        " Its layers are made by code that is not in the artifact: training, evaluation and export "
        "need that code, edge and cloud do not."
    )
    return (
        f"# Model card of artifact {manifest.id[:12]}\n\n"
        f"An early-exit image classifier: {plain(architecture.backbone)} of width "
        f"{architecture.width_mult:g} with {branches}. It takes images of "
        f"{architecture.input_size} px and knows {architecture.classes} classes."
        f"{code if source == CUSTOM else ''}\n\n"
        f"Artifact: `{manifest.id}`."
    )


def _data(manifest: Manifest) -> Iterator[str]:
    origin = manifest.origin
    yield from _table(
        ("", ""),
        [
            ("images", _stated(origin.data)),
            ("licence of the images", _stated(origin.data_licence)),
            ("weights that training began from", _stated(origin.weights)),
            ("licence of those weights", _stated(origin.weights_licence)),
            *((f"images for {plain(part)}", f"{count}") for part, count in manifest.sizes.items()),
        ],
    )
    if origin.data_licence is None or origin.weights_licence is None:
        yield ""
        yield (
            "Where a licence is not stated, find out what it allows before the network is used. A "
            "training states them by `data.licence` and `model.licence`."
        )


def _accuracy(manifest: Manifest, tested: ExitResults | None) -> Iterator[str]:
    images = manifest.sizes.get("val", 0)
    columns = [_shares(manifest.validation_accuracy, images)]
    names = ["accuracy % on validation"]
    if tested is not None:
        columns.append(_shares(tested.accuracy, tested.samples))
        names.append("accuracy % on test")
    rows = [
        (f"{k}", f"{row.after}", f"{macs / 1e6:.1f}", f"{row.payload_bytes}", *shares)
        for k, (row, macs, *shares) in enumerate(
            zip(manifest.exits, exit_macs(manifest.exits), *columns, strict=True), 1
        )
    ]
    yield from _table(("exit", "after block", "MMACs", "bytes of features", *names), rows)
    yield ""
    yield (
        "The last exit is the backbone's own classifier. MMACs are those to the exit, with all "
        "branches up to it. In brackets are 95 % intervals (Wilson), over "
        f"{images} validation images"
        + (f" and {tested.samples} test images." if tested else "; it was not tested.")
    )


def _calibration(manifest: Manifest, tested: ExitResults | None) -> Iterator[str]:
    temperatures = manifest.temperatures.per_exit
    rows = [[f"{k}", f"{t:.4g}"] for k, t in enumerate(temperatures, 1)]
    names = ["exit", "temperature"]
    if tested is not None:
        names += ["ECE % on test", "with temperature"]
        for row, before, after in zip(rows, tested.ece, tested.ece_calibrated, strict=True):
            row += [f"{100 * before:.1f}", f"{100 * after:.1f}"]
    yield from _table(names, rows)
    yield ""
    yield f"One temperature for all exits: {manifest.temperatures.shared:.4g}."
    fitted = manifest.content.get("temperatures")
    if isinstance(fitted, dict) and fitted.get("fitted"):
        yield f"How they were fitted: {_inline(fitted['fitted'])}."


def _experts(manifest: Manifest) -> Iterator[str]:
    distortion = manifest.content.get(FINE_TUNED)
    if isinstance(distortion, dict):
        yield (
            f"The whole network was trained on for {_inline(distortion.get('kind'))}, levels "
            f"{_inline(distortion.get('mildest'))} to {_inline(distortion.get('strongest'))}, from "
            f"artifact {_inline(distortion.get('base'))}."
        )
    if not manifest.experts:
        return
    rows = [
        (
            plain(one.kind),
            f"{one.mildest:g} to {one.strongest:g}",
            _percent(one.validation_accuracy),
            _percent(one.plain_accuracy),
            ", ".join(f"{t:.4g}" for t in one.temperatures.per_exit),
        )
        for one in manifest.experts
    ]
    names = ("heads for", "levels", "accuracy % by exit", "of the plain heads", "temperatures")
    yield from _table(names, rows)
    classifier = manifest.classifier
    yield ""
    yield (
        "On validation images distorted at such levels. The distortion classifier is right for "
        f"{_percent(classifier.validation_accuracy)} % of images untouched and of each kind, and "
        f"is believed from a probability of {classifier.sure:g} on."
    )


def _limits(manifest: Manifest, tested: ExitResults | None) -> Iterator[str]:
    known = " other than those above" if manifest.experts else ""
    classes = len(manifest.classes)
    yield f"- An image of anything else is given one of the {classes} classes all the same."
    yield "- The numbers hold for images like those named above; measure on your own."
    yield f"- Blur, noise and other distortions{known} cost accuracy that is not measured here."
    yield "- Validation images stopped the training and fitted the temperatures, so they flatter."
    if tested is None:
        yield "- No test split was asked."
    yield "- Nobody examined how it treats groups of people; it must not decide about persons."


def _preprocessing(manifest: Manifest) -> Iterator[str]:
    given = manifest.preprocessing
    mean, std = (", ".join(f"{x:g}" for x in each) for each in (given.mean, given.std))
    yield (
        f"The shorter side is brought to {given.resize_size} px, the middle {given.input_size} px "
        f"are cut out, and of RGB values in 0 to 1 the mean ({mean}) is taken off and the rest "
        f"divided by ({std})."
    )


def _making(manifest: Manifest) -> Iterator[str]:
    content, origin = manifest.content, manifest.origin
    versions = content.get("versions")
    made_with = versions.items() if isinstance(versions, dict) else ()
    yield from _table(
        ("", ""),
        [
            ("command", _stated(origin.command)),
            ("seed", _stated(None if origin.seed is None else str(origin.seed))),
            ("hardware", _stated(origin.hardware)),
            ("date", _inline(content.get("created"))),
            ("commit", _inline(content.get("git_commit"))),
            ("versions", ", ".join(f"{plain(name)} {_inline(value)}" for name, value in made_with)),
        ],
    )


def _files(manifest: Manifest) -> Iterator[str]:
    rows = [(plain(name), f"{f.bytes}", plain(f.sha256)) for name, f in manifest.files.items()]
    yield from _table(("file", "bytes", "SHA-256"), rows)


def _classes(manifest: Manifest) -> Iterator[str]:
    rows = [(f"{index}", plain(name)) for index, name in enumerate(manifest.classes)]
    yield from _table(("output", "class"), rows)


def plain(text: str) -> str:
    """Write a text in one line so that Markdown shows it as it is, inside a line or a table."""
    return re.sub(r"([\\`*_\[\]<>|&~!@$:]|(?<=www)\.)", r"\\\1", printable(text))


def _stated(text: str | None) -> str:
    return NOT_STATED if text is None else plain(text)


def _inline(value: object) -> str:
    return NOT_STATED if value is None else plain(str(value))


def _shares(values: Sequence[float], samples: int) -> list[str]:
    estimates = [share(round(value * samples), samples) for value in values]
    return [
        f"{100 * value:.1f} [{100 * one.low:.1f}, {100 * one.high:.1f}]"
        for value, one in zip(values, estimates, strict=True)
    ]


def _percent(values: Sequence[float]) -> str:
    return ", ".join(f"{100 * value:.1f}" for value in values)


def _table(names: Sequence[str], rows: Iterable[Sequence[str]]) -> Iterator[str]:
    yield f"| {' | '.join(names)} |"
    yield f"|{len(names) * '---|'}"
    yield from (f"| {' | '.join(row)} |" for row in rows)
