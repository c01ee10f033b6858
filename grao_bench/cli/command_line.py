"""What the Hydra commands share: composed configurations as values, and a user's mistake as one line."""

from __future__ import annotations

import difflib
import logging
import os
import re
import sys
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn

import hydra
from hydra.errors import HydraException, OverrideParseException
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from grao_bench.cli.rates import rate_of
from grao_bench.core.errors import UserError
from grao_bench.core.specs import conf_dir
from grao_bench.core.values import check_types
from grao_bench.reporting.gather.roles import read_role

RENAMED = {"training.learning_rate": "training.lr", "reward.batch_size": "reward.tokens_per_forward"}
"""Config keys of earlier versions, and what they are called now; UPGRADING.md lists them."""

OmegaConf.register_new_resolver(
    "tuned_rate",
    lambda table, data, objective: rate_of(table, data, objective).value,
    replace=True,
)


def hydra_main(config_name: str, task: Callable[[DictConfig], Any]) -> None:
    """Run a task under Hydra with this project's conf/ and sweeps/."""
    try:
        check_python(sys.version_info[:2])
    except UserError as error:
        quit_with(error)
    os.environ["GRAO_BENCH_SWEEPS_PARENT"] = str(sweeps_parent())
    data = logging.getLogger("grao_bench.data")
    data.setLevel(logging.INFO)
    data.addHandler(PrintedOnce())
    # the tokenizers' own threads would stand in the way of one thread per cell, and warn when a process forks
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    sys.argv[1:] = [with_group(word) for word in sys.argv[1:]]
    try:
        refuse_listed_axis(sys.argv[1:])
    except UserError as error:
        quit_with(error)
    if not any(word.startswith("-") for word in sys.argv[1:]):
        refuse_mistyped(config_name, sys.argv[1:])
    hydra.main(version_base="1.3", config_path=str(conf_dir()), config_name=config_name)(task)()


def refuse_mistyped(config_name: str, overrides: Sequence[str]) -> None:
    """Quit with one line for an override that Hydra would refuse in up to thirty."""
    try:
        composed(config_name, overrides)
    except UserError as error:
        named = any(word.startswith("+sweeps=") for word in overrides)
        if not (named and "Ambiguous" in str(error)):  # values of a named grid's axis
            quit_with(error)


def refuse_listed_axis(words: Sequence[str]) -> None:
    """UserError for values of a named grid's axis that are not written as Hydra takes them: as a
    list, unquoted below hydra.sweeper.params, or with a space between them."""
    axes = _axes([word.removeprefix("+sweeps=") for word in words if word.startswith("+sweeps=")])
    prefix = "hydra.sweeper.params."
    for i, word in enumerate(words):
        key, _, value = word.partition("=")
        axis, bare = key.removeprefix(prefix), "".join(value.split())
        if axis not in axes:
            continue
        whole = axis == key
        listed = bare.startswith("[")
        parted = bare.endswith(",") and i + 1 < len(words) and "=" not in words[i + 1]
        if listed or parted or ("," in bare and not whole and bare[0] not in "\"'"):
            values = bare.strip("[]") + ("".join(words[i + 1]) if parted else "")
            what = "is one value, a list" if listed else "is not how an axis of a grid is given"
            fix = f"write {axis}={values}, or quoted: '{prefix}{axis}=\"{values}\"'"
            raise UserError(f"{word}: {what}; {fix}")


def _axes(sweeps: Sequence[str]) -> set[str]:
    """The keys that named grids sweep, those of the grids they go on from included."""
    found: set[str] = set()
    for name in sweeps:
        path = sweeps_parent() / "sweeps" / f"{name}.yaml"
        if path.is_file():
            grid = OmegaConf.load(path)
            found |= {str(key) for key in OmegaConf.select(grid, "hydra.sweeper.params") or {}}
            goes_on = OmegaConf.select(grid, "defaults") or []
            others = [one for one in goes_on if isinstance(one, str)]
            found |= _axes([one for one in others if one != "_self_"])
    return found


def with_group(word: str) -> str:
    """An override as Hydra reads it: `model.adapter=lora`, which names a file of conf/, is to Hydra
    `model/adapter=lora` (with a dot it would put a text where that file's values belong), and
    null, which a group can't be, its file none.yaml."""
    key, equals, value = word.partition("=")
    group = key.replace(".", "/")
    if "." not in key or not equals or not (conf_dir() / group).is_dir():
        return word
    return f"{group}={','.join('none' if one == 'null' else one for one in value.split(','))}"


class PrintedOnce(logging.Handler):
    """Prints what the data's readers say of a set, once, however often it is read."""

    def emit(self, record: logging.LogRecord) -> None:
        said = self.__dict__.setdefault("said", set())
        if record.getMessage() not in said:
            said.add(record.getMessage())
            print(record.getMessage())


def composed(config_name: str, overrides: Sequence[str]) -> DictConfig:
    """A configuration of conf/ with overrides in the command line's grammar; UserError for those
    that it does not take."""
    os.environ["GRAO_BENCH_SWEEPS_PARENT"] = str(sweeps_parent())
    try:
        check_python(sys.version_info[:2])
        with hydra.initialize_config_dir(str(conf_dir()), version_base="1.3"):
            return hydra.compose(config_name, [with_group(word) for word in overrides])
    except (OmegaConfBaseException, HydraException) as error:
        raise UserError(refused(error)) from None


def refused(error: BaseException) -> str:
    """What Hydra says of an override that it does not take, as one line with what there is."""
    lines = [line for line in str(error).splitlines() if line.strip()]
    first = lines[0].strip().rstrip(".") if lines else one_line(error)
    there = [line.strip() for line in lines if line.startswith("\t") and "provider=" not in line]
    node = getattr(error.__cause__, "parent_node", None)
    if not there and isinstance(node, DictConfig):
        there = [str(key) for key in node if key not in ("_target_", "hydra")]
    if first.startswith("Ambiguous"):
        return f"{first}; add -m for a grid, or write a list as key=[a,b]"
    if isinstance(error, OverrideParseException):
        said = " ".join(line.strip() for line in lines if "https://" not in line)
        return f"{error.override}: {said}; an override is key=value"
    named = first.rpartition(" '")[2].rstrip("'")
    for old, new in RENAMED.items():
        if f".{named}".endswith(f".{old}"):
            return f"{named}: is called {named.removesuffix(old)}{new} now"
    close = difflib.get_close_matches(re.split("[/.]", named)[-1], there, n=3)
    if close:
        return f"{first}; did you mean {' or '.join(close)}?"
    return f"{first}; there are {', '.join(there)}" if there else first


def check_python(version: tuple[int, int]) -> None:
    """UserError where Hydra can't start: 1.3's own options break argparse from Python 3.14 on,
    before a command line is read (github.com/hydra-ecosystem/hydra/issues/3121)."""
    if not (3, 11) <= version < (3, 14):
        raise UserError(
            f"Python {version[0]}.{version[1]}: Hydra 1.3, which reads the command line, can't start on it; use Python 3.11, 3.12 or 3.13"
        )


def sweeps_parent() -> Path:
    """The folder that holds sweeps/: Hydra finds `+sweeps=<name>` below it."""
    return conf_dir().parent


def to_value(cfg: DictConfig, tables: tuple[str, ...] = (), key: str = "") -> Any:
    """The frozen dataclass that a composed configuration describes, its types checked; UserError names the key of what is wrong.

    `tables` are keys that others interpolate from, and no fields. key: of the node itself.
    """
    try:
        plain = OmegaConf.to_container(without_hydra(cfg), resolve=True, throw_on_missing=True)
        assert isinstance(plain, dict)
        for table in tables:
            plain.pop(table)
        _take_role(plain)
        value = instantiate(plain, _convert_="all")
    except (OmegaConfBaseException, HydraException) as error:
        raise UserError(one_line(error)) from None
    check_types(value, key)
    return value


def _take_role(plain: dict[Any, Any]) -> None:
    """An objective's role, which its YAML says, is the run's where the run has no other: no setting
    of the objective's, and no part of a configuration's hash."""
    objective = plain.get("objective")
    told = objective.pop("role", None) if isinstance(objective, dict) else None
    for key, role in (("objective.role", told), ("role", plain.get("role"))):
        if role is not None:
            read_role(str(role), key)
    if told is not None and "role" in plain:
        plain["role"] = plain["role"] or told


def without_hydra(cfg: DictConfig) -> DictConfig:
    """The configuration without Hydra's own node."""
    plain = cfg.copy()
    OmegaConf.set_struct(plain, False)
    plain.pop("hydra", None)
    return plain


def one_line(error: BaseException) -> str:
    """An exception of Hydra or OmegaConf as one line for a user: the key, and what is wrong with it."""
    keys = [line.strip().removeprefix("full_key:").strip() for line in str(error).splitlines() if line.strip().startswith("full_key:")]
    key = next((key for key in keys if key), "")
    cause = error
    while isinstance(cause, HydraException) and cause.__cause__ is not None:
        cause = cause.__cause__
    if isinstance(cause, UserError):  # a spec's own check, which names its key
        return str(cause)
    first = next((line.strip() for line in str(cause).splitlines() if line.strip()), type(cause).__name__)
    if "???" in str(error) or "Missing mandatory value" in first:
        return f"{key or first.rpartition(': ')[2]}: has no value yet; give it one on the command line"
    return f"{key}: {first}" if key else first


def quit_with(error: UserError) -> NoReturn:
    """Print a user's mistake as one line and exit with 2; with HYDRA_FULL_ERROR=1, print its traceback before."""
    if os.environ.get("HYDRA_FULL_ERROR") == "1":
        traceback.print_exception(error)  # not raised: Hydra turns what a callback raises into a warning, and goes on
    print(f"grao_bench: {error}", file=sys.stderr)
    sys.exit(2)


def quiet_transformers() -> None:
    """No warnings and no loading bars from transformers."""
    from transformers.utils import logging

    logging.set_verbosity_error()
    logging.disable_progress_bar()
