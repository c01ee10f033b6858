"""Choosing rates and weights, by one rule: every objective and set has as many trials."""
