"""Calibration: temperatures, and the gap between confidence and accuracy (NLL, ECE, reliability).

NumPy, and SciPy where temperatures are fitted, so that the edge does without it. Logits are raw,
float (..., samples, classes), labels int (samples,).
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from eenn.errors import EennError

Floats = NDArray[np.float64]

# Outside these a temperature says only that the logits are all right, or worth nothing.
MIN_TEMPERATURE, MAX_TEMPERATURE = 0.05, 1000.0
# The samples behind a temperature have to tell far more than this; see `weight_of`. In resplits of
# Caltech-101 (benchmarks/temperatures.py) it keeps the NLL of unseen images within 5 % of the
# uncalibrated at worst, and moves temperatures from all 871 validation images by less than 1 %.
ENOUGH = 60
# In a description of fitted temperatures: precedes those that validation did not decide.
HELD = "; held near 1, because few samples or only right answers have too little weight: "
# Choices of fitted temperatures to apply.
CHOICES = ("per_exit", "shared", "none")


@dataclass(frozen=True)
class Temperatures:
    """One temperature per exit, and one shared by all exits."""

    per_exit: tuple[float, ...]
    shared: float

    def chosen(self, choice: str) -> tuple[float, ...]:
        """Select one temperature per exit, (exits,).

        Args:
            choice: `per_exit`, `shared`, or `none`, which stands for 1.

        Raises:
            EennError: `choice` is another word.
        """
        if choice not in CHOICES:
            raise EennError(f"temperature={choice}: allowed are {', '.join(CHOICES)}")
        alike = {"shared": self.shared, "none": 1.0}
        return len(self.per_exit) * (alike[choice],) if choice in alike else self.per_exit


@dataclass(frozen=True)
class ReliabilityBins:
    """Per confidence bin: mean confidence, accuracy (NaN where empty) and number of samples."""

    confidence: Floats
    accuracy: Floats
    count: NDArray[np.int64]


def probabilities(logits: ArrayLike, temperature: ArrayLike = 1.0) -> Floats:
    """Calibrate the probabilities of logits, in their shape (..., samples, classes).

    Args:
        temperature: one number, or one for every exit.
    """
    return np.exp(log_probabilities(logits, temperature))


def log_probabilities(logits: ArrayLike, temperature: ArrayLike = 1.0) -> Floats:
    """Calibrate natural logarithms of probabilities, finite where a probability rounds to 0.

    Args:
        temperature: as in `probabilities`.
    """
    return _log_softmax(np.asarray(logits, np.float64) / _against(temperature, np.ndim(logits)))


def nll(logits: ArrayLike, labels: ArrayLike, temperature: float = 1.0) -> float:
    """Compute the mean negative log-likelihood in nats of one exit's logits (samples, classes)."""
    return float(nll_per_sample(logits, labels, temperature).mean())


def nll_per_sample(logits: ArrayLike, labels: ArrayLike, temperature: float = 1.0) -> Floats:
    """Compute the negative log-likelihood in nats of every sample, (samples,)."""
    log_probs = _log_softmax(np.asarray(logits, np.float64) / temperature)
    return np.asarray(-np.take_along_axis(log_probs, np.asarray(labels)[:, None], -1)[:, 0])


def weight_of(logits: ArrayLike, labels: ArrayLike, exits: int = 1) -> float:
    """Weigh how far samples, logits (samples, classes), decide a temperature, from 0 to 1.

    The weight grows with the number of images or, if that is less, with the nats of their NLL:
    images that are all right teach next to nothing about a confidence, however many they are.

    Args:
        exits: the number of exits in the samples; those of one image count once.

    Returns:
        0 for samples that tell nothing, near 1 for many images, some of them wrong.
    """
    images = len(np.asarray(logits)) / exits
    told = images * min(1.0, nll(logits, labels))
    return told**2 / (told**2 + ENOUGH**2)


def fit_temperature(logits: ArrayLike, labels: ArrayLike, exits: int = 1) -> float:
    """Fit the temperature of logits (samples, classes), always positive.

    It minimises the NLL of the samples with their weight, and with the rest of it that of labels
    that the uncalibrated probabilities would draw, which is least at 1: few samples, or samples
    that are all right, leave it near 1. Both are convex in 1/T (Guo et al., "On Calibration of
    Modern Neural Networks", ICML 2017), so the root of the derivative is the one minimum, and it
    lies between 1 and the minimum of the samples alone: their NLL is never worse than uncalibrated.
    It is kept in [MIN_TEMPERATURE, MAX_TEMPERATURE]. Constant logits give 1.

    Args:
        exits: see `weight_of`.

    Raises:
        EennError: logits that are not finite, or no samples.
    """
    from scipy.optimize import brentq

    z = np.asarray(logits, np.float64)
    if z.size == 0 or not np.isfinite(z).all():
        raise EennError(
            "temperatures need finite logits of at least one sample; check the training"
        )
    z = z - z.max(axis=-1, keepdims=True)
    right = np.take_along_axis(z, np.asarray(labels)[:, None], -1)[:, 0].mean()
    expected = (probabilities(z) * z).sum(-1).mean()
    weight = weight_of(z, labels, exits)
    aim = weight * right + (1 - weight) * expected

    def slope(inverse: float) -> float:
        """Compute the derivative of the weighted NLL with respect to 1/T."""
        return float((probabilities(inverse * z) * z).sum(-1).mean() - aim)

    low, high = 1 / MAX_TEMPERATURE, 1 / MIN_TEMPERATURE
    if slope(low) >= 0 and slope(high) <= 0:
        return 1.0
    if slope(low) >= 0:
        return MAX_TEMPERATURE
    if slope(high) <= 0:
        return MIN_TEMPERATURE
    return 1 / float(brentq(slope, low, high, xtol=1e-9))


def fit_temperatures(logits: ArrayLike, labels: ArrayLike) -> Temperatures:
    """Fit temperatures to the validation logits of all exits, (exits, samples, classes).

    Args:
        labels: class indices, (samples,).

    Raises:
        EennError: logits that are not finite, or no samples.
    """
    z = np.asarray(logits)
    per_exit = tuple(fit_temperature(exit_logits, labels) for exit_logits in z)
    every = z.reshape(-1, z.shape[-1]), np.tile(np.asarray(labels), len(z))
    return Temperatures(per_exit, fit_temperature(*every, exits=len(z)))


def how_fitted(logits: ArrayLike, labels: ArrayLike) -> str:
    """Describe for people how temperatures are fitted to logits (exits, samples, classes).

    The description names the exits whose samples decide less than half of their temperature.
    """
    z = np.asarray(logits)
    weights = [weight_of(exit_logits, labels) for exit_logits in z]
    held = [f"exit {k} ({weight:.2f})" for k, weight in enumerate(weights, 1) if weight < 0.5]
    said = f"minimal NLL on {z.shape[1]} validation samples"
    return f"{said}{HELD}{', '.join(held)}" if held else said


def reliability_bins(probs: ArrayLike, labels: ArrayLike, bins: int = 15) -> ReliabilityBins:
    """Bin one exit's probabilities (samples, classes) in `bins` equal confidence bins."""
    p = np.asarray(probs)
    return _bins(p.max(-1), p.argmax(-1) == np.asarray(labels), bins)


def ece(probs: ArrayLike, labels: ArrayLike, bins: int = 15) -> float:
    """Compute the expected calibration error of probabilities (samples, classes), in [0, 1].

    The error is the mean gap between confidence and accuracy over `bins` equal bins, weighted by
    their samples (Naeini et al., AAAI 2015).
    """
    p = np.asarray(probs)
    return ece_of(p.max(-1), p.argmax(-1) == np.asarray(labels), bins)


def ece_of(confidence: ArrayLike, correct: ArrayLike, bins: int = 15) -> float:
    """Compute the expected calibration error of confidences and right answers, both (samples,)."""
    return _gap(_bins(np.asarray(confidence), np.asarray(correct), bins))


def ece_if_calibrated(
    probs: ArrayLike, draws: int = 1000, seed: int = 0, bins: int = 15
) -> tuple[float, float]:
    """Estimate the mean and 97.5th percentile of the ECE of a perfectly calibrated model.

    The confidences of `probs` (samples, classes) stay, and each sample's answer is drawn right with
    that probability: the remaining error is the noise of a finite test set.
    """
    confidence = np.asarray(probs).max(-1)
    generator = np.random.default_rng(seed)
    gaps = [
        _gap(_bins(confidence, generator.random(len(confidence)) < confidence, bins))
        for _ in range(draws)
    ]
    return float(np.mean(gaps)), float(np.quantile(gaps, 0.975))


def _against(temperature: ArrayLike, ndim: int) -> Floats:
    t = np.asarray(temperature, np.float64)
    return t.reshape(t.shape + (1,) * (ndim - t.ndim)) if t.ndim else t


def _log_softmax(z: Floats) -> Floats:
    shifted = z - z.max(axis=-1, keepdims=True)
    return np.asarray(shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True)))


def _bins(confidence: Floats, correct: NDArray[np.bool_], bins: int) -> ReliabilityBins:
    index = np.clip(np.ceil(confidence * bins).astype(np.int64) - 1, 0, bins - 1)
    count = np.bincount(index, minlength=bins)
    with np.errstate(invalid="ignore"):
        mean_confidence = np.bincount(index, confidence, bins) / count
        accuracy = np.bincount(index, correct, bins) / count
    return ReliabilityBins(mean_confidence, accuracy, count)


def _gap(bins: ReliabilityBins) -> float:
    gaps = np.nan_to_num(np.abs(bins.confidence - bins.accuracy))
    return float((gaps * bins.count).sum() / bins.count.sum())
