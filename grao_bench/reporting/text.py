"""Numbers and names as text."""

from __future__ import annotations

import math
import re

from grao_bench.reporting.gather.intervals import Interval

NONE = "-"


def slug(text: str) -> str:
    """A name that is safe as a file name and as an HTML id."""
    return re.sub(r"[^A-Za-z0-9_.-]+", "_", text).strip("_")


def with_interval(interval: Interval | None, digits: int) -> str:
    """ "61.2 ± 1.1 [58.4, 64.0]" over seeds; "61.2 [58.4, 64.0]" over prompts only; "-" for
    none."""
    if interval is None:
        return NONE
    if math.isnan(interval.low):
        return with_sd(interval, digits)
    low, high = (number(end, digits) for end in (interval.low, interval.high))
    return f"{with_sd(interval, digits)} [{low}, {high}]"


def number(value: float, digits: int) -> str:
    """Rounded, and never "-0.0"."""
    return f"{round(value, digits) + 0.0:.{digits}f}"


def with_sd(interval: Interval | None, digits: int) -> str:
    """ "61.2 ± 1.1" over seeds, the mean alone otherwise; "-" for none."""
    if interval is None:
        return NONE
    return number(interval.mean, digits) + (
        f" ± {interval.sd:.{digits}f}" if interval.kind == "seeds" else ""
    )
