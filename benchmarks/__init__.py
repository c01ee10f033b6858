"""Ours against the peer, and against the floor. Run from a checkout: python -m benchmarks.step_vs_trl, python -m benchmarks.scaling."""
