"""Preference data: the embedded world, HH-RLHF, JSON-lines files, and the codec between text and token ids."""
