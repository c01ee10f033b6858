"""Answers to held-out prompts, and what the reward source says of them."""
