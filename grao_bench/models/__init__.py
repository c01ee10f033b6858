"""Policies, reference models and where base models come from."""
