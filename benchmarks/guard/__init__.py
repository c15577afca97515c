"""Measures the guard by simulation, on recorded images of a real network."""
