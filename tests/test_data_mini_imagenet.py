"""The pictures and tables of mini-ImageNet."""

import csv
import shutil
import warnings
import zlib
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from real_data import per_task_and_class

from routing_env.data import load, mini_imagenet


@pytest.fixture
def little_imagenet(tmp_path: Path) -> Path:
    """50 labels with 12 grey-ish pictures each, whose brightness tells the label."""
    place = tmp_path / "mini-imagenet"
    (place / "images").mkdir(parents=True)
    rows = [(f"n{label:02}{i:02}.jpg", f"n{label:02}") for label in range(50) for i in range(12)]
    for name, label in rows:
        picture = np.full((84, 84, 3), 5 * int(label[1:]), np.uint8)
        Image.fromarray(picture).save(place / "images" / name)
    for table, part in zip(mini_imagenet.TABLES, (rows[:360], rows[360:480], rows[480:]), strict=True):
        with (place / table).open("w", newline="") as file:
            csv.writer(file).writerows([("filename", "label"), *part])
    return place


def test_mini_imagenet_tests_the_last_twelfth_of_each_label(little_imagenet: Path) -> None:
    data = load("mini_imagenet", data_dir=str(little_imagenet), validation=0)
    again = load("mini_imagenet", data_dir=str(little_imagenet), validation=0, seed=3)
    other = mini_imagenet.load(data_dir=str(little_imagenet), validation=0, label_seed=1)
    assert per_task_and_class(data, "train").tolist() == [[11] * 5] * 10
    assert per_task_and_class(data, "test").tolist() == [[1] * 5] * 10
    label = ((data.inputs.float().mean((1, 2, 3)) + 2) // 5).long()
    assert Counter(label.tolist()) == dict.fromkeys(range(50), 12)
    for split in (data.train, data.test):  # one label for each task and class
        assert (
            len(
                {(int(t), int(c), int(label[i])) for t, c, i in zip(split.task, split.target, split.index, strict=True)}
            )
            == 50
        )
    assert torch.equal(data.inputs, again.inputs)
    assert not torch.equal(data.inputs, other.inputs)


def no_image(path: Path) -> None:
    path.write_text("<html>404</html>")


def empty(path: Path) -> None:
    path.write_bytes(b"")


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-200])


def small(path: Path) -> None:
    Image.new("RGB", (32, 84)).save(path)


def four_channels(path: Path) -> None:
    Image.new("CMYK", (84, 84)).save(path)


@pytest.mark.parametrize(
    ("harm", "message"),
    [
        (no_image, "damaged or no image"),
        (empty, "damaged or no image"),
        (cut, "damaged or no image"),
        (small, r"is \(32, 84\) RGB; make it a 84x84 RGB image"),
        (four_channels, r"is \(84, 84\) CMYK; make it"),
        (Path.unlink, "lacks 1 of the 360 files of train.csv"),
    ],
)
def test_a_broken_picture_is_named(little_imagenet: Path, harm: Callable[[Path], None], message: str) -> None:
    harm(little_imagenet / "images" / "n0307.jpg")
    with pytest.raises((ValueError, FileNotFoundError), match=message) as caught:
        load("mini_imagenet", data_dir=str(little_imagenet))
    assert "n0307.jpg" in str(caught.value)


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ("", "columns filename,label"),
        ("file,class\na,b\n", "columns filename,label"),
        ("filename,label\nn0000.jpg\n", "columns filename,label"),
        ("filename,label\nn0000.jpg,n00\nn0000.jpg,n01\n", "names 1 files that were named before"),
        ("filename,label\n../train.csv,n00\n", "lacks 1 of the 1 files"),
        ("filename,label\nn0000.jpg,n00\n", "21 labels; MIN-MTL needs 50"),
        ("filename,label\n\nn0000.jpg,n00\nn0001.jpg,n00,x\n", r"line 4 is 'n0001\.jpg,n00,x'"),
        ("filename,label\nn0000.jpg,\n", r"line 2 is 'n0000\.jpg,'"),
        ("filename;label\nn0000.jpg;n00\n", r"separated by a comma; its first line is 'filename;label'"),
        ("label,filename\nn00,n0000.jpg\n", "its first line is 'label,filename'"),
        ('filename,label\n"n0000.jpg,n00\n', "not a CSV table in UTF-8"),
    ],
)
def test_a_broken_table_is_named(little_imagenet: Path, table: str, message: str) -> None:
    (little_imagenet / "train.csv").write_text(table)
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        load("mini_imagenet", data_dir=str(little_imagenet))


@pytest.mark.parametrize(
    "text",
    [
        "\ufefffilename,label\r\na.jpg,n1\r\n\r\nb.jpg,n2\r\n",
        '\n\nfilename,label\n\na.jpg , n1\n"b.jpg",n2\n ,\n\n',
    ],
)
def test_a_table_with_a_byte_order_mark_and_blank_lines_is_read(tmp_path: Path, text: str) -> None:
    (tmp_path / "t.csv").write_bytes(text.encode())
    assert mini_imagenet.read_table(tmp_path / "t.csv") == [("a.jpg", "n1"), ("b.jpg", "n2")]
    (tmp_path / "t.csv").write_bytes(text.encode("utf-16"))
    with pytest.raises(ValueError, match=r"t\.csv is not a CSV table in UTF-8"):
        mini_imagenet.read_table(tmp_path / "t.csv")


def test_an_image_that_is_too_large_to_decode_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def chunk(kind: bytes, body: bytes) -> bytes:
        return len(body).to_bytes(4) + kind + body + zlib.crc32(kind + body).to_bytes(4)

    for side in (10_000, 50_000):
        header = chunk(b"IHDR", side.to_bytes(4) * 2 + bytes([8, 2, 0, 0, 0]))
        (tmp_path / "bomb.jpg").write_bytes(b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", b"") + chunk(b"IEND", b""))
        for limit in (Image.MAX_IMAGE_PIXELS, None):
            monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", limit)
            with pytest.raises(ValueError, match=r"bomb\.jpg is "), warnings.catch_warnings(action="ignore"):
                mini_imagenet.decode([tmp_path / "bomb.jpg"])


def test_a_missing_folder_is_named(little_imagenet: Path) -> None:
    shutil.rmtree(little_imagenet / "images")
    with pytest.raises(FileNotFoundError, match=r"has no images; .*routing-env download mini_imagenet"):
        load("mini_imagenet", data_dir=str(little_imagenet.parent))
