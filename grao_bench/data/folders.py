"""Where a split's rows lie: files, globs, folders, and what `datasets` has saved or can load."""

from __future__ import annotations

import glob
import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from grao_bench.core.errors import UserError
from grao_bench.core.hub import causes_of, refusal
from grao_bench.data.sources import READS, SUFFIXES, Row, Source, open_source
from grao_bench.data.unpacking import COMPRESSED

_SAVED = ("dataset_dict.json", "state.json")
_ABOUT = ("dataset_info.json", "dataset_infos.json", "state.json")
_OF_LIBRARY = {"train": "train", "validation": "dev", "test": "test"}
"""The splits' names in `datasets`, and ours."""
_OF_US = {ours: name for name, ours in _OF_LIBRARY.items()}
_LOG = logging.getLogger(__name__)


def find_sources(given: Mapping[str, str | Sequence[str] | None]) -> dict[str, list[Source]]:
    """The sources of train, dev and test: of what is given for each, and, where train is one
    folder, of the folder's own dev and test for those that are null. UserError where there are
    none."""
    found: dict[str, list[Source]] = {}
    for split, places in given.items():
        if places is None:
            continue
        names = [places] if isinstance(places, str) else list(places)
        if not names:
            raise UserError(f"data.{split}=[]: names no file; give one or more")
        for name in names:
            for own, sources in _of_place(name, split).items():
                if own == split or (own in given and given[own] is None):
                    found.setdefault(own, []).extend(sources)
    return found


def _of_place(name: str, split: str) -> dict[str, list[Source]]:
    """The sources of one file, glob or folder, by split: of a folder that is train's, its dev and
    test too. UserError where there are none of the split asked for."""
    path = Path(name).expanduser()
    if path.is_dir():
        saved = any((path / file).is_file() for file in _SAVED)
        parts = _saved(path) if saved else _files_by_split(path)
        if split != "train" and list(parts) == ["train"]:  # what has no splits is all of one
            parts = {split: parts["train"]}
        if split not in parts:
            one = f"{path}/{next(iter(parts))}" if saved else f"'{path}/*.jsonl'"
            fix = f"name the one that is, as data.{split}={one}"
            has = ", ".join(_OF_US.get(part, part) for part in parts)
            raise UserError(f"{path}: holds the splits {has}, none of them {split}; {fix}")
        return parts if split == "train" else {split: parts[split]}
    if not path.exists() and glob.has_magic(name):
        paths = sorted(glob.glob(str(path), recursive=True))
        files = [Path(one) for one in paths if Path(one).is_file()]
        if not files:
            raise UserError(f"{path}: no such file; the pattern data.{split} matches none")
        return {split: [open_source(one) for one in files]}
    return {split: [open_source(path)]}


def _files_by_split(folder: Path) -> dict[str, list[Source]]:
    """The data files of a folder, by the splits that their names say, as `datasets` reads them."""
    from datasets.data_files import EmptyDatasetError, get_data_patterns, resolve_pattern

    try:
        patterns = get_data_patterns(str(folder))
    except EmptyDatasetError:
        patterns = {}
    found: dict[str, list[Source]] = {}
    for split, ones in patterns.items():
        paths: set[str] = set()
        for pattern in ones:
            with suppress(FileNotFoundError):  # one of the ways to write a split's name
                paths.update(map(str, resolve_pattern(pattern, str(folder))))
        files = sorted(path for path in paths if _is_data(path))
        if files:
            ours = _OF_LIBRARY.get(str(split), str(split))
            found[ours] = [open_source(Path(file)) for file in files]
    read = {Path(one.name).resolve() for sources in found.values() for one in sources}
    every = [path for path in folder.rglob("*") if path.is_file() and _is_data(str(path))]
    seen = [path for path in every if not str(path.relative_to(folder)).startswith((".", "_"))]
    names = sorted(path.name for path in seen if path.resolve() not in read)
    if found and names:
        what = "not read, for their names say no split as others' do"
        _LOG.info(f"{folder}: {what}: {', '.join(names)}")
    if not found:
        raise UserError(f"{folder}: the folder holds no file of rows; what is read: {READS}")
    return found


def _is_data(path: str) -> bool:
    for packing in COMPRESSED:
        path = path.removesuffix(packing)
    return path.lower().endswith(SUFFIXES) and Path(path).name not in _ABOUT


def _saved(folder: Path) -> dict[str, list[Source]]:
    """What `save_to_disk` left: one set, which is train, or one for each split."""
    from datasets import load_from_disk

    try:
        found = load_from_disk(str(folder))
    except Exception as error:  # the library raises whatever its own parts raise
        reason = _first_line(error)
        raise UserError(f"{folder}: the saved set can't be read ({reason}); save it anew") from None
    if not isinstance(found, Mapping):
        return {"train": [of_dataset(found, str(folder))]}
    named = {_OF_LIBRARY.get(str(name), str(name)): str(name) for name in found}
    parts = {ours: [of_dataset(found[own], f"{folder}/{own}")] for ours, own in named.items()}
    return parts


def of_dataset(dataset: Any, name: str) -> Source:
    """A set of `datasets` as a source, read a thousand rows at a time."""

    def rows() -> Iterator[tuple[int, Row]]:
        number = 0
        for table in dataset.with_format("arrow").iter(batch_size=1000):
            for row in table.to_pylist():
                number += 1
                yield number, row

    return Source(name, "a data set of the datasets library", rows)


def load_from_hub(id: str, config: str | None, split: str, revision: str | None) -> Source:
    """A split of a hub's set, or of a folder laid out as one. UserError says in one line what is
    wrong: no such set, configuration, split or revision, no network, or terms not accepted."""
    from datasets import load_dataset

    try:
        found = load_dataset(id, config, split=split, revision=revision)
    except Exception as error:  # the library raises a dozen kinds
        raise UserError(f"data.id={id}: {split} {_why(error, id, revision)}") from None
    return of_dataset(found, f"{id} {split}")


def _why(error: Exception, id: str, revision: str | None) -> str:
    """What is wrong, and what to do, of an error of `load_dataset`."""
    reason = _first_line(error)
    if ("Config" in reason and "not found" in reason) or "Config name is missing" in reason:
        return f"could not be loaded ({reason}); set data.config"
    if "Unknown split" in reason:
        return f"could not be loaded ({reason}); set data.split"
    if type(error).__name__.startswith("DatasetGeneration"):
        because = _first_line(causes_of(error)[-1])
        return f"could not be read ({because}); use data=files on its files"
    if "scripts are no longer supported" in reason:
        return f"is made by a script ({reason}); use data=files on its files"
    return refusal(_refused(id, revision) or error, id, revision, "data set")


def _refused(id: str, revision: str | None) -> Exception | None:
    """What the hub itself says when the set is asked for: `datasets` keeps that to itself."""
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import RemoteEntryNotFoundError

    try:
        hf_hub_download(id, "README.md", repo_type="dataset", revision=revision)
    except RemoteEntryNotFoundError:
        return None
    except Exception as error:  # the hub's, its HTTP client's, the file system's
        return error
    return None


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
