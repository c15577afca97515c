"""Tests of benchmarks that are more than a measurement."""
