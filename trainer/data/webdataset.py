"""WebDataset shards: tar files of key.jpg (png, webp, ...) with key.cls or key.json beside it.

A key ends at the first dot of a name, as in the library of that name; the rest is the extension.
"""

from __future__ import annotations

import json
import logging
import re
import tarfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from common.errors import ConfigError, first_line
from trainer.config import DataConfig
from trainer.data.cache import Arrays, cached
from trainer.data.dataset import numbered_classes
from trainer.data.folders import need_folder, read_class_names, run_threads
from trainer.data.images import SUFFIXES
from trainer.data.records import EncodedSamples, Records
from trainer.data.registry import DatasetAbsentError

Members = dict[str, tarfile.TarInfo]
"""The files of one sample by all that follows the first dot of their names, in lower case."""

_log = logging.getLogger(__name__)

_RANGE = re.compile(r"\{(\d+)\.\.(\d+)\}")
_LARGEST_LABEL_FILE = 1 << 20


def load(config: DataConfig) -> EncodedSamples:
    """Find all images of the shards in `config.path`; see WebDatasetConfig for their names.

    A label is the number in key.cls, or the value of "label" or "cls" in key.json. classes.txt names the
    classes, else numbers do. What is where in the shards is kept in the user's cache folder. Raises
    DatasetAbsentError where there are no shards, ConfigError for damaged ones.
    """
    folder = need_folder(config, "shards (.tar)")
    names = config.webdataset
    train = _index(find_shards(folder, names.train, "train"), names.shuffle)
    test = _index(find_shards(folder, names.test, "test"), names.shuffle)
    class_names = read_class_names(folder)
    if class_names is None:
        class_names = numbered_classes(train.labels, folder)
    return EncodedSamples(train, test, class_names)


def find_shards(folder: Path, pattern: str, key: str) -> tuple[Path, ...]:
    """The files that a name with ranges in braces, * and ? stands for; a range must be complete."""
    found: list[Path] = []
    for name in _expand(pattern):
        if any(sign in name for sign in "*?["):
            anchor = Path(name).anchor  # "/" of an absolute name, else nothing
            try:
                found += sorted((folder / anchor).glob(name.removeprefix(anchor)))
            except ValueError as error:
                raise ConfigError(f"data.webdataset.{key} {pattern!r}: {error}") from error
        elif (folder / name).is_file():
            found.append(folder / name)
        else:
            raise DatasetAbsentError(
                f"{folder / name}: no such shard: fetch it, or set data.webdataset.{key} (it is {pattern!r})"
            )
    if not found:
        raise DatasetAbsentError(
            f"{folder}: holds no shards {pattern!r}: set data.webdataset.{key} to their names"
        )
    return tuple(found)


def _expand(pattern: str) -> Iterator[str]:
    match = _RANGE.search(pattern)
    if match is None:
        yield pattern
        return
    first, last = match.groups()
    for number in range(int(first), int(last) + 1):
        yield from _expand(pattern[: match.start()] + f"{number:0{len(first)}}" + pattern[match.end() :])


def _index(shards: tuple[Path, ...], mixed: int) -> Records:
    def find() -> Arrays:
        _log.info("looking for the images in %d shards, %s and following", len(shards), shards[0])
        parts = list(run_threads(scan, shards))
        counts = [len(part["labels"]) for part in parts]
        arrays = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
        return {"places": np.repeat(np.arange(len(shards)), counts), **arrays}

    arrays = cached("webdataset-2", shards, find)
    if not len(arrays["labels"]):
        raise ConfigError(f"{shards[0]}: no image with a label in it, nor in the others")
    return Records(shards, **arrays, mixed=mixed)


def scan(shard: Path) -> Arrays:
    """Offsets, sizes and labels, each int64 [images], of a shard; raises ConfigError where it is damaged.

    What `tarfile` takes for the end of an archive may be a damaged header, so the end is looked at.
    """
    rows: list[tuple[int, int, int]] = []
    try:
        with tarfile.open(shard, "r:") as archive:
            for key, members in _groups(archive, shard):
                image = _image(shard, key, members)
                if image is not None:
                    rows.append((image.offset_data, image.size, _label(archive, shard, key, members)))
            complete = _is_end(shard, archive.offset)
    except OSError as error:
        raise ConfigError(f"{shard}: unreadable ({error.strerror or error})") from error
    except (tarfile.TarError, EOFError, ValueError, IndexError, RecursionError, OverflowError) as error:
        reason = first_line(error)
        raise ConfigError(f"{shard}: damaged, or no .tar file ({reason}): fetch it anew") from error
    table = np.array(rows, np.int64).reshape(-1, 3)
    if not complete or int((table[:, 0] + table[:, 1]).max(initial=0)) > archive.offset:
        raise ConfigError(f"{shard}: damaged or cut off behind byte {archive.offset}: fetch it anew")
    return {"offsets": table[:, 0], "sizes": table[:, 1], "labels": table[:, 2]}


def _is_end(shard: Path, offset: int) -> bool:
    """Whether an archive ends at `offset`: two blocks of zeros, and nothing but zeros behind them."""
    count = 0
    with shard.open("rb") as file:
        file.seek(offset)
        while piece := file.read(1 << 20):
            if piece.strip(b"\0"):
                return False
            count += len(piece)
    return count >= 2 * tarfile.BLOCKSIZE


def _groups(archive: tarfile.TarFile, shard: Path) -> Iterator[tuple[str, Members]]:
    """Neighbouring members of one key, by their extensions; names that begin with a dot have no key."""
    key, members = "", Members()
    for member in archive:
        path = Path(member.name)
        stem, _, kind = path.name.partition(".")
        if not member.isfile() or not stem:
            continue
        if str(path.parent / stem) != key:
            if members:
                yield key, members
            key, members = str(path.parent / stem), {}
        if kind.lower() in members:
            raise ConfigError(f"{shard}: {member.name} comes twice: give each sample a key of its own")
        members[kind.lower()] = member
    if members:
        yield key, members


def _image(shard: Path, key: str, members: Members) -> tarfile.TarInfo | None:
    """The image of a key: not seg.png, which belongs to it; None where it has no picture at all."""
    pictures = [kind for kind in members if f".{kind.rpartition('.')[2]}" in SUFFIXES]
    image = next((kind for kind in pictures if "." not in kind), None)
    if pictures and image is None:
        raise ConfigError(
            f"{shard}: {members[pictures[0]].name}: the key ends at the first dot, so this is no image but "
            f"the {pictures[0]} of {key}: rename it"
        )
    return None if image is None else members[image]


def _label(archive: tarfile.TarFile, shard: Path, key: str, members: Members) -> int:
    kind = next((kind for kind in ("cls", "json") if kind in members), None)
    if kind is None:
        raise ConfigError(f"{shard}: {key} has neither .cls nor .json beside its image")
    file = archive.extractfile(members[kind])
    assert file is not None
    text = file.read(_LARGEST_LABEL_FILE)
    try:
        value = json.loads(text)
        if isinstance(value, dict):
            value = value["label"] if "label" in value else value["cls"]
        if not isinstance(value, int) or not 0 <= value < 2**31:
            raise ValueError
    except (ValueError, KeyError, RecursionError) as error:
        raise ConfigError(f"{shard}: {key}.{kind} holds no label (a number from 0 on)") from error
    return value
