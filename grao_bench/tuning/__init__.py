"""Choosing rates and weights: the same number of trials for every objective and set, by one rule."""
