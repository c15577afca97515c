"""Numbers of an evaluation, from records alone: answers, grids of settings, fits."""
