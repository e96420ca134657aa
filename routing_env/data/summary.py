"""Shows a data set as a table and as a sheet of images."""

from __future__ import annotations

import os
from textwrap import wrap

import numpy as np
import torch
from PIL import Image, ImageDraw
from rich.console import Console
from rich.filesize import decimal
from rich.table import Table
from rich.text import Text

from routing_env.data.base import MultiTaskData, Split
from routing_env.names import counted, printable

_IMAGES_PER_ROW = 10
_MARGIN, _HEADER, _GAP = 150, 18, 4
"""In pixels: left of the rows for the names of the tasks, above them for the classes, and between classes."""


def describe(data: MultiTaskData) -> Table:
    """Tabulate the samples of each task and split, and the balance of the training labels."""
    table = Table(title=Text(f"{printable(data.name)}: {counted(data.tasks, 'task')}"), title_justify="left")
    table.add_column("task", overflow="fold", max_width=40)
    for column in ("train", "validation", "test"):
        table.add_column(column, justify="right")
    if data.classes is None:
        table.add_column("targets in training, mean ± deviation")
    else:
        table.add_column("classes", justify="right")
        table.add_column("samples of each class in training")
    splits = data.train, data.validation, data.test
    counts = torch.stack([torch.bincount(split.task.cpu(), minlength=data.tasks) for split in splits], dim=1)
    for task, name in enumerate(data.task_names):
        target = data.train.target[data.train.task == task].cpu()
        if data.classes is None:
            balance = [f"{target.mean():.3g} ± {target.std(correction=0):.3g}"]
        else:
            classes = data.classes[task]
            balance = [str(classes), " ".join(map(str, torch.bincount(target, minlength=classes).tolist()))]
        table.add_row(Text(printable(name)), *(f"{count:,}" for count in counts[task].tolist()), *balance)
    table.add_section()
    table.add_row("all", *(f"{count:,}" for count in counts.sum(0).tolist()))
    return table


def print_summary(data: MultiTaskData, console: Console) -> None:
    """Print the table of :func:`describe`, and how the inputs are stored and standardised."""
    console.print(describe(data))
    shape = " x ".join(map(str, data.input_shape))
    size = decimal(data.inputs.numel() * data.inputs.element_size())
    kind = str(data.inputs.dtype).removeprefix("torch.")
    console.print(f"{len(data.inputs):,} inputs of {shape}, {kind}, {size}")
    if data.mean.numel() <= 3:
        mean, std = (", ".join(f"{value:.4g}" for value in t.flatten().tolist()) for t in (data.mean, data.std))
        console.print(f"standardised with mean {mean} and deviation {std} of the training inputs")


def save_contact_sheet(data: MultiTaskData, path: str | os.PathLike[str]) -> None:
    """Save a PNG with a few training images of every task and class, one row per task.

    Raises:
        ValueError: The samples are not images [H, W], [1, H, W] or [3, H, W] in classes.
    """
    shape = data.input_shape
    if len(shape) not in (2, 3) or (len(shape) == 3 and shape[0] not in (1, 3)) or data.classes is None:
        raise ValueError(f"samples of {data.name} have shape {shape}; a contact sheet needs images in classes")
    classes = max(data.classes)
    each = max(1, _IMAGES_PER_ROW // classes)
    scale = max(1, 64 // max(shape[-2:]))
    height, width = shape[-2] * scale, shape[-1] * scale
    column = each * width + _GAP
    sheet = Image.new("RGB", (_MARGIN + classes * column, _HEADER + data.tasks * (height + _GAP)), "white")
    draw = ImageDraw.Draw(sheet)
    for c in range(classes):
        draw.text((_MARGIN + c * column, 2), f"class {c}", fill="black")
    bright = float(data.inputs[data.train.index[:1000]].max())
    dark = min(0.0, float(data.inputs[data.train.index[:1000]].min()))
    for task, name in enumerate(data.task_names):
        top = _HEADER + task * (height + _GAP)
        draw.text((4, top), _wrapped(name), fill="black")
        for c in range(data.classes[task]):
            for i, image in enumerate(_some(data, data.train, task, c, each)):
                grey = ((image - dark) / (bright - dark or 1) * 255).clip(0, 255).astype(np.uint8)
                tile = Image.fromarray(grey).convert("RGB").resize((width, height), Image.Resampling.NEAREST)
                sheet.paste(tile, (_MARGIN + c * column + i * width, top))
    sheet.save(path, format="PNG")


def _some(data: MultiTaskData, split: Split, task: int, c: int, count: int) -> list[np.ndarray]:
    """Images of a task and class, spread evenly over its samples, each [H, W] or [H, W, 3]."""
    rows = split.index[(split.task == task) & (split.target == c)]
    rows = rows[:: max(1, len(rows) // count)][:count]
    images = data.inputs[rows].cpu().to(torch.float32).numpy()
    if images.ndim == 4:
        images = images[:, 0] if images.shape[1] == 1 else images.transpose(0, 2, 3, 1)
    return list(images)


def _wrapped(name: str, width: int = 22, lines: int = 3) -> str:
    return "\n".join(wrap(printable(name).replace("_", " "), width)[:lines])
