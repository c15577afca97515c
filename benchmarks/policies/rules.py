"""The rules that are compared, by name, and those that are left out, with the reason."""

from benchmarks.policies import learned, scores, thresholds
from benchmarks.policies.protocol import Rule

REFERENCE = "confidence, one threshold"

RULES: dict[str, Rule] = {
    REFERENCE: thresholds.confidence,
    "confidence, strict 10": thresholds.strict,
    "margin": thresholds.margin,
    "entropy (BranchyNet)": thresholds.entropy,
    "most confident exit as fallback": thresholds.most_confident_answers,
    "patience": thresholds.patience,
    "threshold per exit, coordinate search": thresholds.coordinate,
    "threshold per exit, dynamic programming": thresholds.dynamic_programming,
    "threshold per exit, quota (MSDNet)": thresholds.quota,
    "threshold per exit, Apparate": thresholds.apparate,
    "threshold per exit, DyCE one-pass": thresholds.dyce(circular=False),
    "threshold per exit, DyCE circular": thresholds.dyce(circular=True),
    "PCEE, isotonic": scores.pcee(scores.isotonic_map),
    "PCEE, 15 bins": scores.pcee(scores.binned_map),
    "running ensemble, confidence": scores.ensemble("confidence"),
    "running ensemble, entropy (Qendro)": scores.ensemble("certainty"),
    "running ensemble, mutual information (Qendro)": scores.ensemble("agreement"),
    "stacked exits (ZTW)": scores.stacking,
    "logistic: the exit is right": learned.logistic_score(no_regret=False),
    "logistic: no regret": learned.logistic_score(no_regret=True),
    "gradient boosting: the exit is right": learned.boosted_score,
    "optimal stopping, ridge": learned.optimal_stopping,
    "gates after training (JEI-DNN)": learned.gates,
    "random forest (Pacheco et al.)": learned.forest,
}

LEFT_OUT = {
    "EENet": (
        "its published code needs three repairs and 400 to 1000 epochs with settings of our own "
        "choice, so a row would not measure EENet"
    ),
    "bag of features (Passalis et al.)": (
        "features are carried from exit to exit, so heads are trained anew and an exit's input "
        "depends on the branches that run; stacked exits show how much shared outputs can give"
    ),
}
