"""``mini_imagenet``: MIN-MTL (paper, section 4), 50 random labels of mini-ImageNet in 10 disjoint tasks of 5.

Read from the layout of Ravi & Larochelle (2017): ``images/`` with 84x84 JPEGs, and ``train.csv``, ``val.csv`` and
``test.csv`` with the columns filename and label. Their splits are by label, for few-shot learning; here the tables are
joined. The paper states 800 training and 50 test images per label, but there are only 600: the last twelfth of each
label's files is the test split, which gives 550 + 50 images where all 600 are present, and fewer otherwise.

The images have no published checksums, so only their structure is checked.
"""

from __future__ import annotations

import csv
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from routing_env.data.base import MultiTaskData, Split, make_data
from routing_env.data.files import find_files

TABLES = ("train.csv", "val.csv", "test.csv")
TASKS, CLASSES, SIDE = 10, 5, 84
TEST_SHARE = 12


def load(
    *, validation: float = 0.1, seed: int = 0, data_dir: str | None = None, label_seed: int = 2018
) -> MultiTaskData:
    """Ten tasks of five classes; inputs uint8 [images, 3, 84, 84].

    Args:
        validation: share of the training images that is held out for validation.
        seed: seed of the validation cut.
        data_dir: the folder that holds ``mini-imagenet/``, or that folder itself.
        label_seed: seed of the choice of labels and their tasks, independent of the seed of the run.

    Raises:
        FileNotFoundError: A table or an image is missing.
        ValueError: A table cannot be read, there are too few labels, or a file is not an 84x84 RGB image.
    """
    place = find_files("mini_imagenet", "mini-imagenet", [*TABLES, "images"], data_dir)
    files = read_tables(place)
    labels = sorted(files)
    if len(labels) < TASKS * CLASSES:
        raise ValueError(f"the tables in {place} name {len(labels)} labels; MIN-MTL needs {TASKS * CLASSES}")
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(label_seed))
    chosen = [labels[i] for i in order[: TASKS * CLASSES].tolist()]
    few = next((label for label in chosen if len(files[label]) < TEST_SHARE), None)
    if few is not None:
        raise ValueError(f"label {few} has {len(files[few])} images; at least {TEST_SHARE} are needed for a test image")

    sizes = torch.tensor([len(files[label]) for label in chosen])
    images = decode([place / "images" / file for label in chosen for file in files[label]])
    label = torch.arange(len(chosen)).repeat_interleave(sizes)
    place_in_label = torch.arange(len(label)) - (sizes.cumsum(0) - sizes)[label]
    tests = place_in_label >= (sizes - sizes // TEST_SHARE)[label]
    everything = Split(torch.arange(len(label)), label // CLASSES, label % CLASSES)
    task_names = [f"{label} and {CLASSES - 1} more" for label in chosen[::CLASSES]]
    return make_data(
        "mini_imagenet",
        torch.from_numpy(images),
        everything[~tests],
        everything[tests],
        task_names,
        [CLASSES] * TASKS,
        validation=validation,
        seed=seed,
    )


def read_tables(place: Path) -> dict[str, list[str]]:
    """Read the three tables.

    Returns:
        Label to the names of its files, in the order of the tables.

    Raises:
        FileNotFoundError: A table names files that are not in ``images/``.
        ValueError: A table has other columns, an incomplete line, or a file that was named before.
    """
    there = {path.name for path in (place / "images").iterdir()}
    files: dict[str, list[str]] = {}
    seen: set[str] = set()
    for table in TABLES:
        path = place / table
        rows = read_table(path)
        names = [name for name, _ in rows]
        twice = len(seen) + len(names) - len(seen := seen | set(names))
        if twice:
            raise ValueError(f"{path} names {twice} files that were named before; each may occur once")
        missing = [name for name in names if name not in there]
        if missing:
            raise FileNotFoundError(
                f"{place / 'images'} lacks {len(missing)} of the {len(names)} files of {table}, among them "
                f"{missing[0]!r}; complete the folder, or take their lines out of the table"
            )
        for name, label in rows:
            files.setdefault(label, []).append(name)
    return files


def read_table(path: Path) -> list[tuple[str, str]]:
    """Read the file names and labels of a table; a byte order mark and blank lines are skipped.

    Raises:
        ValueError: The file is not a CSV table in UTF-8, has other columns, or a line does not have two values.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.reader(file, strict=True)
            lines = [(reader.line_num, [value.strip() for value in row]) for row in reader]
    except (UnicodeDecodeError, csv.Error) as error:
        raise ValueError(f"{path} is not a CSV table in UTF-8: {error}; save it as one") from error
    (_, header), *lines = [(number, row) for number, row in lines if any(row)] or [(1, [])]
    if header != ["filename", "label"]:
        found = f"its first line is {','.join(header)!r}" if header else "it is empty"
        raise ValueError(f"{path} must have the columns filename,label, separated by a comma; {found}")
    for number, row in lines:
        if len(row) != 2 or not all(row):
            raise ValueError(
                f"{path} must have the columns filename,label and nothing else in every line; "
                f"line {number} is {','.join(row)!r}"
            )
    return [(name, label) for _, (name, label) in lines]


def decode(paths: Sequence[Path]) -> npt.NDArray[np.uint8]:
    """Decode images, with a progress bar on an interactive terminal.

    Returns:
        uint8 [N, 3, 84, 84].

    Raises:
        ValueError: A file is damaged, is not an image, or has another size or mode.
    """
    from rich.console import Console
    from rich.progress import track

    images = np.empty((len(paths), 3, SIDE, SIDE), np.uint8)
    console = Console(stderr=True)
    with ThreadPoolExecutor() as pool:
        decoded = pool.map(_decode_one, paths)
        shown = track(
            decoded, "Decoding images", len(paths), console=console, transient=True, disable=not sys.stderr.isatty()
        )
        for i, image in enumerate(shown):
            images[i] = image
    return images


def _decode_one(path: Path) -> npt.NDArray[np.uint8]:
    """Decode an image to uint8 [3, 84, 84]; grey images become RGB."""
    from PIL import Image

    try:
        with Image.open(path) as image:
            found = f"{image.size} {image.mode}"
            fits = image.size == (SIDE, SIDE) and image.mode in ("RGB", "L")
            if fits:  # nothing is decoded, and no memory taken, for an image of another size
                return np.asarray(image.convert("RGB")).transpose(2, 0, 1)
    except Exception as error:  # the decoders raise errors of many kinds; each concerns this file
        raise ValueError(f"{path} is damaged or no image ({error}); replace it") from error
    raise ValueError(f"{path} is {found}; make it a {SIDE}x{SIDE} RGB image")
