"""The guard against drift: audits, detectors and refits that hold a promise when images change."""
