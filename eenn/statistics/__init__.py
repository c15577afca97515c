"""Numbers from probabilities and labels: calibration, metrics, intervals, risk control."""
