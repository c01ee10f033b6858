"""Reward sources: whoever scores an answer."""
