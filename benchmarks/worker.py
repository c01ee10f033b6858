"""An arm, or this machine's rates, in a process of its own: `python -m benchmarks.worker '<json>'`. Started by step_vs_trl alone."""

from __future__ import annotations

import json
import os
import sys
from dataclasses import asdict
from pathlib import Path

from benchmarks.pipe import Asked
from benchmarks.settings import OURS, TRL
from benchmarks.workload import SHAPES, Workload, write_checkpoint


def main() -> None:
    """Write a checkpoint ("checkpoint": a shape's name), measure ("rates": a shape's name), or serve steps of an arm."""
    os.environ |= {"HF_HUB_OFFLINE": "1", "HF_HUB_DISABLE_TELEMETRY": "1", "TOKENIZERS_PARALLELISM": "false"}
    request = json.loads(sys.argv[1])
    asked = Asked()
    import torch
    from transformers.utils import logging

    from benchmarks.rates import measure_rates

    logging.set_verbosity_error()
    logging.disable_progress_bar()
    torch.set_num_threads(request["threads"])
    if "rates" in request:
        asked.answer(asdict(measure_rates(SHAPES[request["rates"]], request["device"], request["dtype"])))
        return
    folder = Path(request["folder"])
    if "checkpoint" in request:
        write_checkpoint(SHAPES[request["checkpoint"]], folder, request["seed"])
        return
    work = Workload(**request["workload"] | {"prompt_tokens": tuple(request["workload"]["prompt_tokens"])})
    if request["arm"] in OURS:
        from benchmarks.ours import serve as serve_ours

        serve_ours(asked, work, folder, request)
    else:
        from benchmarks.trl_arm import serve as serve_trl

        serve_trl(asked, work, folder, request["device"], TRL[request["arm"]])


if __name__ == "__main__":
    main()
