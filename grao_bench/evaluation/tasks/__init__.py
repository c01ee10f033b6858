"""Our sets as lm-eval tasks, with RAS as the metric: for any model that lm-eval runs, with grao-bench installed.

lm_eval --include_path "$(python -m grao_bench.evaluation.tasks)" --tasks grao_world_helpful --model hf --model_args pretrained=...
"""

from __future__ import annotations

from pathlib import Path

FOLDER = Path(__file__).parent
"""What --include_path wants."""
