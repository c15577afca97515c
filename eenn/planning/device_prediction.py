"""Times of a network on devices where it was never measured, from a profile of another device or of
another network.

A device's times are those of a reference, scaled by what is known of the device. A network's times
are those of its work (`eenn.planning.work`), at rates that were measured on another network.
"""

from collections.abc import Iterable, Mapping
from dataclasses import replace

import numpy as np

from eenn.errors import EennError
from eenn.exits.policies.base import Floats
from eenn.planning.device_file import MIN_MS, DeviceFile
from eenn.planning.device_profile import DeviceProfile, Packing
from eenn.planning.rates import Rates, ridge
from eenn.planning.work import BLOCKS, EXITS, STAGES, NetworkWork, Part, numbers_of

# With fewer totals a single factor is all that they tell.
TOTALS_FOR_KINDS = 3
# Weight of the reference for each total, where factors differ by kind of work.
STRENGTH = 1.0
# Median error of stages on a GPU, from a CPU's profile and one total: EfficientNet-B0 on cloud
# machines, computed from the public measurements of PORTEND's authors (2023).
ERROR_ON_OTHER_KIND = 0.31


def scaled(
    reference: DeviceProfile, device: DeviceFile, work: NetworkWork | None = None
) -> DeviceProfile:
    """Predict the profile of a device from that of another, and from what is known of the device.

    One factor is fitted to the totals. With TOTALS_FOR_KINDS of them or more, and the network's
    work, full and depthwise convolutions, weights, layers and calls get factors of their own. Known
    times are taken over as they are; preprocessing and requests follow the one factor.

    Args:
        work: of the network in `reference`.

    Returns:
        A profile of no repeats, with all parts of the reference and of the totals.

    Raises:
        EennError: the reference does not have the part of a total, or `work` is of another network.
    """
    times, known = times_of(reference), device.totals.parts
    before = np.array([_reference_ms(times, part) for part in known])
    log_ratios = np.log(list(known.values())) - np.log(before)
    # A long part tells more of the whole than a short one.
    log_factor = np.average(log_ratios, weights=before)
    factor, log_factors = float(np.exp(log_factor)), np.full(len(times), log_factor)
    if work is not None and len(known) >= TOTALS_FOR_KINDS:
        shares = rates_of([(reference, work)]).shares(_features(work, [*times, *known]))
        deviations = _by_kind(shares, log_ratios - log_factor, before / before.mean())
        log_factors = log_factors + deviations[: len(times)]
    own_ms = np.exp(log_factors) * np.array(list(times.values()))
    preprocess_ms = device.totals.preprocess_ms
    return replace(
        _with_times(reference, dict(zip(times, own_ms.tolist(), strict=True)) | known),
        device=f"{device.device}, predicted from {reference.device}",
        kind=device.kind,
        precision=device.precision or reference.precision,
        threads=device.threads or reference.threads,
        preprocess_ms=factor * reference.preprocess_ms if preprocess_ms is None else preprocess_ms,
        classifier_ms=factor * reference.classifier_ms,
        requests={
            key: replace(request, codec_ms=factor * request.codec_ms)
            for key, request in reference.requests.items()
        },
    )


def predicted(
    reference: DeviceProfile, reference_work: NetworkWork, own_work: NetworkWork
) -> DeviceProfile:
    """Predict the profile of a network on a device where another network was measured.

    Preprocessing is that of the reference, and the classifier's time follows the pixels.

    Args:
        reference: profile of the other network.

    Returns:
        A profile of no repeats, with every block, stage and exit of the network, and no requests.

    Raises:
        EennError: `reference_work` is of another network than `reference`.
    """
    rates, parts = rates_of([(reference, reference_work)]), list(own_work.parts())
    own_ms = rates.predict(_features(own_work, parts))
    pixels = (own_work.input_size / reference.input_size) ** 2
    return replace(
        _with_times(reference, dict(zip(parts, own_ms.tolist(), strict=True))),
        artifact_id=own_work.artifact_id,
        input_size=own_work.input_size,
        device=f"{reference.device}, predicted from another network",
        classifier_ms=pixels * reference.classifier_ms,
        requests={},
    )


def requests_of(
    reference: DeviceProfile, measured: Mapping[int, int], values: Mapping[int, int]
) -> dict[str, Packing]:
    """Predict the requests of a network from those of another: a line over the values sent.

    Args:
        measured: number of values at every cut of the network in `reference`.
        values: the same of the network to predict.

    Returns:
        The requests by the keys of a profile.

    Raises:
        EennError: the reference has no requests from two cuts.
    """
    found: dict[str, Packing] = {}
    for name in sorted({key.partition("-")[2] for key in reference.requests}):
        known = [cut for cut in measured if f"{cut}-{name}" in reference.requests]
        if len({measured[cut] for cut in known}) < 2:
            raise EennError(f"a profile with too few requests in {name}; measure again")
        sizes = [measured[cut] for cut in known]
        packed = [reference.requests[f"{cut}-{name}"] for cut in known]
        per_byte = np.polyfit(sizes, [own.sent_bytes for own in packed], 1)
        per_ms = np.polyfit(sizes, [own.codec_ms for own in packed], 1)
        least_ms = min(own.codec_ms for own in packed)
        for cut, count in values.items():
            sent_bytes, codec_ms = (float(np.polyval(line, count)) for line in (per_byte, per_ms))
            found[f"{cut}-{name}"] = Packing(max(sent_bytes, 0.0), max(codec_ms, least_ms))
    return found


def doubts(reference: DeviceProfile, device: DeviceFile) -> list[str]:
    """List reasons why a device may differ from its scaled reference, a line each."""
    found = []
    if device.kind != reference.kind:
        found.append(
            f"{device.device} is a {device.kind}, the reference a {reference.kind}: from a CPU to "
            f"a GPU stages were off by {ERROR_ON_OTHER_KIND:.0%} (median); take the profile of a "
            f"{device.kind}, or give several totals"
        )
    for name, own, other in (
        ("precision", device.precision, reference.precision),
        ("threads", device.threads, reference.threads),
    ):
        if own not in (None, other):
            found.append(
                f"{name}={own}, the reference has {other}: not all parts gain alike; take a "
                "reference that has the same, or give several totals"
            )
    return found


def rates_of(measured: Iterable[tuple[DeviceProfile, NetworkWork]]) -> Rates:
    """Fit the rates of a device to the profiles of some networks on it.

    Raises:
        EennError: a profile is of another network than its work, or has no times.
    """
    features: list[Floats] = []
    ms: list[float] = []
    for profile, work in measured:
        if profile.artifact_id != work.artifact_id:
            raise EennError(
                f"the profile is of artifact {profile.artifact_id[:12]}, the work of "
                f"{work.artifact_id[:12]}; give the artifact that was measured"
            )
        own = {part: took for part, took in times_of(profile).items() if took >= MIN_MS}
        features += [work.features(part) for part in own]
        ms += own.values()
    if not ms:
        raise EennError("a profile without blocks, stages and exits; measure again")
    return Rates.fitted(np.array(features), np.array(ms))


def times_of(profile: DeviceProfile) -> dict[Part, float]:
    """Collect the milliseconds of all blocks, stages and exits of a profile."""
    groups = {BLOCKS: profile.blocks, STAGES: profile.stages, EXITS: profile.exits}
    return {(name, key): ms for name, group in groups.items() for key, ms in group.items()}


def _with_times(profile: DeviceProfile, ms: Mapping[Part, float]) -> DeviceProfile:
    """Replace the times of all parts by times that were not measured."""
    blocks, stages, exits = (
        {key: own for (group, key), own in ms.items() if group == name}
        for name in (BLOCKS, STAGES, EXITS)
    )
    return replace(profile, repeats=0, blocks=blocks, stages=stages, exits=exits)


def _reference_ms(times: Mapping[Part, float], part: Part) -> float:
    """Find the time of a part of the reference; a stage may be the sum of its blocks.

    Raises:
        EennError: the reference does not have the part, or it takes no time there.
    """
    group, key = part
    ms = times.get(part, 0.0)
    numbers = numbers_of(part)
    if part not in times and group == STAGES and numbers is not None:
        ms = sum(times.get((BLOCKS, str(own + 1)), -np.inf) for own in range(*numbers))
    if ms < MIN_MS:
        allowed = ", ".join(own for name, own in times if name == group)
        raise EennError(
            f"totals, {group}: {key} has no time in the reference profile; allowed are "
            f"{allowed or 'none':.200}"
        )
    return ms


def _features(work: NetworkWork, parts: Iterable[Part]) -> Floats:
    return np.array([work.features(part) for part in parts])


def _by_kind(shares: Floats, deviations: Floats, weights: Floats) -> Floats:
    """Fit factors of kinds of work; return every part's deviation from the one factor, (parts,).

    Ridge draws all kinds to the one factor, the more the fewer totals there are. Kinds whose share
    hardly varies between parts would be drawn more than others, so shares are measured in standard
    deviations.

    Args:
        shares: of the kinds in each part, (parts, kinds); the known parts come last.
        deviations: of the logarithms of the known parts' factors from the one factor, (known,).
        weights: of the known parts, 1 on average, (known,).
    """
    spread = shares.std(axis=0)
    units = shares / np.where(spread > 1e-9, spread, 1.0)
    known = units[-len(deviations) :]
    middle, root = np.average(known, axis=0, weights=weights), np.sqrt(weights)
    strength = STRENGTH * len(deviations)
    slopes = ridge(root[:, None] * (known - middle), root * deviations, strength)
    return np.asarray((units - middle) @ slopes)
