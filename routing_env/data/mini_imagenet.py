"""``mini_imagenet``: MIN-MTL (paper, section 4), 50 random labels of mini-ImageNet in 10 disjoint tasks of 5.

Read from the layout of Ravi & Larochelle (2017): ``images/`` with 84x84 JPEGs, and ``train.csv``, ``val.csv`` and
``test.csv`` with the columns filename and label. Their splits are by label, for few-shot learning; here all labels
count alike. The paper states 800 training and 50 test images per label, but there are only 600: the last twelfth of
each label's files is test, which is 550 + 50 where all 600 are there, and fewer where only a part is.
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
        validation: share of the training images that validate.
        seed: of the validation cut.
        data_dir: the folder that holds ``mini-imagenet/``, or that folder.
        label_seed: of the choice of labels and their tasks, which the run's seed leaves alone.

    Raises:
        FileNotFoundError: a table or an image is missing.
        ValueError: a table that cannot be read, too few labels, a file that is no 84x84 RGB image.
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
    """The files of every label, in the order of the tables.

    Raises:
        FileNotFoundError: a table names files that are not there.
        ValueError: wrong columns, or a file named twice or outside ``images/``.
    """
    there = {path.name for path in (place / "images").iterdir()}
    files: dict[str, list[str]] = {}
    seen: set[str] = set()
    for table in TABLES:
        path = place / table
        try:
            rows = list(csv.reader(path.read_text(encoding="utf-8").splitlines()))
        except (UnicodeDecodeError, csv.Error) as error:
            raise ValueError(f"{path} is no CSV table: {error}") from error
        if not rows or rows[0] != ["filename", "label"] or any(len(row) != 2 for row in rows):
            raise ValueError(f"{path} must have the columns filename,label and nothing else in every line")
        names = [name for name, _ in rows[1:]]
        twice = len(seen) + len(names) - len(seen := seen | set(names))
        if twice:
            raise ValueError(f"{path} names {twice} files that were named before; each may occur once")
        missing = [name for name in names if name not in there]
        if missing:
            raise FileNotFoundError(
                f"{place / 'images'} lacks {len(missing)} of the {len(names)} files of {table}, among them "
                f"{missing[0]!r}; complete the folder, or take their lines out of the table"
            )
        for name, label in rows[1:]:
            files.setdefault(label, []).append(name)
    return files


def decode(paths: Sequence[Path]) -> npt.NDArray[np.uint8]:
    """Decode images, with a progress bar where a person waits.

    Returns:
        uint8 [N, 3, 84, 84].

    Raises:
        ValueError: a file that is no image, damaged, or of another size or mode.
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
    """uint8 [3, 84, 84]; grey images count as RGB."""
    from PIL import Image

    try:
        with Image.open(path) as image:
            image.load()
            if image.size != (SIDE, SIDE) or image.mode not in ("RGB", "L"):
                raise ValueError(f"{path} is {image.size} {image.mode}; make it a {SIDE}x{SIDE} RGB image")
            return np.asarray(image.convert("RGB")).transpose(2, 0, 1)
    except (OSError, SyntaxError) as error:
        raise ValueError(f"{path} is damaged or no image ({error}); replace it") from error
