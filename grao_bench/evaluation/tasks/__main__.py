"""python -m grao_bench.evaluation.tasks: print the folder of the task files."""

from __future__ import annotations

from grao_bench.evaluation.tasks import FOLDER

if __name__ == "__main__":
    print(FOLDER)
