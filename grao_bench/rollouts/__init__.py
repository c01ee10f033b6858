"""Rollout engines: whoever draws answers from a policy."""
