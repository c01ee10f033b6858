"""Experiments run: from values to a folder of records."""
