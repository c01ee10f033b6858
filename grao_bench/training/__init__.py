"""Collect, update, yield."""
