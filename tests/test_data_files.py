"""The files of MNIST, CIFAR-100 and mini-ImageNet: the real ones, and broken ones."""

import csv
import gzip
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import tracemalloc
import warnings
import zlib
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from routing_env.data import MultiTaskData, cifar, load, mini_imagenet, mnist
from routing_env.data.download import SOURCES
from routing_env.data.files import find_files
from routing_env.data.idx import Checksums, is_published, read_idx

REAL = Path(os.environ.get("ROUTING_ENV_DATA") or Path(__file__).resolve().parents[2] / "shared" / "data")


def real(folder: str) -> Path:
    if not (REAL / folder).is_dir():
        pytest.skip(f"{REAL} has no {folder}; set ROUTING_ENV_DATA to a folder that has it")
    return REAL / folder


def load_real(name: str, folder: str, validation: float = 0.0) -> MultiTaskData:
    return load(name, data_dir=str(real(folder).parent), validation=validation)


def per_task_and_class(data: MultiTaskData, split: str) -> torch.Tensor:
    part = getattr(data, split)
    return torch.bincount(part.task * data.outputs + part.target).view(data.tasks, data.outputs)


# The real files


def test_mnist_has_the_papers_counts_and_labels() -> None:
    data = load_real("mnist", "mnist")
    assert data.inputs.shape == (70_000, 1, 28, 28)
    assert data.inputs.dtype == torch.uint8
    assert per_task_and_class(data, "train").tolist() == [[9000, 1000]] * 10
    assert per_task_and_class(data, "test").tolist() == [[180, 20]] * 10
    digit = read_idx(real("mnist") / mnist.FILES[1], (60_000,))
    assert torch.equal((digit[data.train.index] == data.train.task).long(), data.train.target)
    of_task = torch.bincount(data.train.task * 10 + digit[data.train.index])
    assert of_task.tolist() == [1000] * 100
    pairs = data.train.task * len(data.inputs) + data.train.index
    assert len(pairs.unique()) == 100_000  # no task has an image twice
    assert data.test.index.min() >= 60_000
    assert data.mean.item() / 255 == pytest.approx(0.1307, abs=1e-3)
    assert data.std.item() / 255 == pytest.approx(0.3081, abs=1e-3)


def test_the_tests_of_mnist_do_not_depend_on_the_seed() -> None:
    real("mnist")
    one, other = (load("mnist", data_dir=str(REAL), validation=0.1, seed=seed) for seed in (0, 1))
    assert torch.equal(one.test.index, other.test.index)
    assert not torch.equal(one.validation.index[:100], other.validation.index[:100])
    for data in (one, other):
        assert not torch.isin(data.validation.index, data.train.index).any()


def test_cifar_has_the_papers_counts_and_a_sound_label_map() -> None:
    place = real("cifar-100-binary")
    data = load_real("cifar", "cifar-100-binary")
    assert data.inputs.shape == (60_000, 3, 32, 32)
    assert data.inputs.dtype == torch.uint8
    assert per_task_and_class(data, "train").tolist() == [[500] * 5] * 20
    assert per_task_and_class(data, "test").tolist() == [[100] * 5] * 20
    assert data.task_names[0] == "aquatic_mammals"
    assert (data.mean.flatten() / 255).tolist() == pytest.approx([0.507, 0.487, 0.441], abs=1e-3)
    assert (data.std.flatten() / 255).tolist() == pytest.approx([0.267, 0.256, 0.276], abs=1e-3)

    fine_names = (place / "fine_label_names.txt").read_text().split()
    records = np.memmap(place / "test.bin", np.uint8, "r").reshape(-1, 3074)
    named = {
        (int(task), int(target)): fine_names[fine]
        for task, target, fine in zip(data.test.task, data.test.target, records[:, 1], strict=True)
    }
    assert len(named) == len(set(named.values())) == 100
    assert [named[0, c] for c in range(5)] == ["beaver", "dolphin", "otter", "seal", "whale"]
    assert [named[14, c] for c in range(5)] == ["baby", "boy", "girl", "man", "woman"]
    last = torch.from_numpy(np.array(records[-1, 2:])).view(3, 32, 32)
    assert torch.equal(data.inputs[-1], last)


def test_mini_imagenet_uses_what_is_there() -> None:
    place = real("mini-imagenet")
    with (place / "train.csv").open() as table:
        first = next(csv.DictReader(table))
    per_label = len(list((place / "images").glob(f"{first['label']}*.jpg")))
    data = load_real("mini_imagenet", "mini-imagenet")
    test = per_label // 12
    assert data.inputs.shape == (50 * per_label, 3, 84, 84)
    assert per_task_and_class(data, "train").tolist() == [[per_label - test] * 5] * 10
    assert per_task_and_class(data, "test").tolist() == [[test] * 5] * 10


@pytest.mark.parametrize("name", ["mnist", "cifar"])
def test_checksums_of_the_real_files(name: str) -> None:
    place = real(SOURCES[name].folder)
    sums = SOURCES[name].files if name == "mnist" else cifar.CHECKSUMS
    for file, expected in sums.items():
        with (place / file).open("rb") as opened:
            assert hashlib.file_digest(opened, "md5" if name == "mnist" else "sha256").hexdigest() == expected


def test_loading_cifar_takes_little_more_memory_than_its_images() -> None:
    real("cifar-100-binary")
    if not Path("/proc/self/status").exists():
        pytest.skip("this system does not tell a process's peak memory in /proc/self/status")
    code = f"""
import re, pathlib, routing_env.data.cifar as cifar
def peak(): return int(re.search(r"VmHWM:\\s+(\\d+) kB", pathlib.Path("/proc/self/status").read_text())[1]) / 1024
before = peak()
cifar.load(data_dir={str(REAL)!r})
print(peak() - before)
"""
    mebibytes = float(subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, text=True).stdout)
    assert 170 < mebibytes < 400


# Where files are looked for


def test_files_are_found_in_the_folder_above_and_in_the_folder_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "data" / "mnist"
    folder.mkdir(parents=True)
    (folder / "a").touch()
    monkeypatch.delenv("ROUTING_ENV_DATA", raising=False)
    assert find_files("mnist", "mnist", ["a"], str(tmp_path / "data")) == folder
    assert find_files("mnist", "mnist", ["a"], str(folder)) == folder
    monkeypatch.chdir(tmp_path)
    assert find_files("mnist", "mnist", ["a"], None).resolve() == folder
    monkeypatch.setenv("ROUTING_ENV_DATA", str(tmp_path / "elsewhere"))
    with pytest.raises(FileNotFoundError, match=r"elsewhere has no mnist/a; .* routing-env download mnist"):
        find_files("mnist", "mnist", ["a"], None)
    assert find_files("mnist", "mnist", ["a"], str(folder)) == folder


# IDX files


def idx(values: np.ndarray, kind: int = 8) -> bytes:
    shape = np.array(values.shape, ">u4").tobytes()
    return bytes([0, 0, kind, values.ndim]) + shape + values.tobytes()


IMAGES = np.arange(2 * 3 * 4, dtype=np.uint8).reshape(2, 3, 4)


def flipped(content: bytes, at: int) -> bytes:
    return content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :]


def test_idx_is_read_as_written(tmp_path: Path) -> None:
    path = tmp_path / "x.gz"
    path.write_bytes(gzip.compress(idx(IMAGES)))
    assert read_idx(path, (2, 3, 4)).tolist() == IMAGES.tolist()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "begins with nothing"),
        (gzip.compress(b""), "begins with nothing"),
        (b"\xff\xd8\xff\xe0 a picture", "damaged or no gzip file"),
        (gzip.compress(idx(IMAGES))[:-9], "damaged or no gzip file"),
        (flipped(gzip.compress(idx(IMAGES), 0), 40), "damaged or no gzip file"),
        (gzip.compress(idx(np.zeros(7, np.uint8))), "images and labels swapped"),
        (gzip.compress(idx(IMAGES, kind=13)), "no IDX file of bytes"),
        (gzip.compress(idx(IMAGES[:1])), r"has shape \(1, 3, 4\), not \(2, 3, 4\)"),
        (gzip.compress(idx(IMAGES)[:10]), r"has shape \(2,\)"),
        (gzip.compress(idx(IMAGES)[:-1]), "holds 23 values, not 24"),
        (gzip.compress(idx(IMAGES) + b"!"), "holds 25 values, not 24"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_broken_idx_file_is_refused(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "x.gz"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=rf"x\.gz .*{message}"):
        read_idx(path, (2, 3, 4))


@pytest.mark.parametrize(("one", "other"), [(0, 1), (0, 2), (1, 3)])
def test_swapped_mnist_files_are_refused(tmp_path: Path, one: int, other: int) -> None:
    place = real("mnist")
    for file, source in enumerate(mnist.FILES):
        source = mnist.FILES[{one: other, other: one}.get(file, file)]
        (tmp_path / mnist.FILES[file]).symlink_to(place / source)
    with pytest.raises(ValueError, match="swapped"):
        load("mnist", data_dir=str(tmp_path))


def test_idx_of_any_shape_is_read_unpacked_and_packed(tmp_path: Path) -> None:
    for values in (IMAGES, IMAGES[0, 0], np.zeros((2, 0, 3), np.uint8)):
        (tmp_path / "plain").write_bytes(idx(values))
        (tmp_path / "packed.gz").write_bytes(gzip.compress(idx(values)))
        for name in ("plain", "packed.gz"):
            assert np.array_equal(read_idx(tmp_path / name).numpy(), values)


def test_the_name_of_an_idx_file_says_whether_it_is_packed(tmp_path: Path) -> None:
    (tmp_path / "plain.gz").write_bytes(idx(IMAGES))
    (tmp_path / "packed").write_bytes(gzip.compress(idx(IMAGES)))
    with pytest.raises(ValueError, match=r"plain\.gz is .*take \.gz from its name"):
        read_idx(tmp_path / "plain.gz")
    with pytest.raises(ValueError, match=r"packed begins with 1f8b.*add \.gz to its name"):
        read_idx(tmp_path / "packed")


def test_a_file_that_unpacks_to_far_more_than_it_should_is_refused_early(tmp_path: Path) -> None:
    path = tmp_path / "bomb.gz"
    with gzip.open(path, "wb", compresslevel=9) as file:
        file.write(idx(IMAGES))
        for _ in range(200):
            file.write(bytes(1 << 20))
    tracemalloc.start()
    with pytest.raises(ValueError, match=r"bomb\.gz holds \d+ values, not 24"):
        read_idx(path, (2, 3, 4))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 10 << 20


# Which set the files belong to


@given(at=st.integers(0, 23), change=st.integers(1, 255))
def test_a_published_file_is_told_from_any_other(at: int, change: int) -> None:
    content = idx(IMAGES)
    sums = Checksums(hashlib.md5(gzip.compress(content, mtime=0)).hexdigest(), hashlib.sha256(content).hexdigest())
    changed = IMAGES.copy()
    changed.reshape(-1)[at] ^= change
    with tempfile.TemporaryDirectory() as folder:
        for values, right in ((IMAGES, True), (changed, False), (IMAGES.reshape(2, 4, 3), False)):
            for name, packed in (
                ("x.gz", gzip.compress(idx(values), mtime=0)),
                ("again.gz", gzip.compress(idx(values), 1, mtime=9)),
                ("plain", idx(values)),
            ):
                path = Path(folder, name)
                path.write_bytes(packed)
                assert is_published(path, read_idx(path), sums) == right
                only_packed = right and name == "x.gz"
                assert is_published(path, read_idx(path), Checksums(sums.md5)) == only_packed


@pytest.mark.parametrize("name", ["mnist", "fashion_mnist"])
def test_files_of_another_set_with_the_same_names_and_shapes_are_refused(tmp_path: Path, name: str) -> None:
    for file in mnist.FILES:
        count = 60_000 if "train" in file else 10_000
        values = np.zeros((count, 28, 28), np.uint8) if "images" in file else (np.arange(count) % 10).astype(np.uint8)
        (tmp_path / file).write_bytes(gzip.compress(idx(values), 1))
    with pytest.raises(ValueError, match=rf"train-images-idx3-ubyte\.gz is not the published file of {name}.*read_idx"):
        load(name, data_dir=str(tmp_path))


@pytest.mark.parametrize(
    ("folder", "form"),
    [
        ("mnist", "{}-idx{}-ubyte"),
        (".", "{}.idx{}-ubyte"),
        ("MNIST/raw", "{}-idx{}-ubyte"),
        ("raw", "{}-idx{}-ubyte.gz"),
        (".", "{0}-idx{1}-ubyte/{0}-idx{1}-ubyte"),
    ],
)
def test_mnist_is_read_in_the_forms_in_which_others_leave_it(tmp_path: Path, folder: str, form: str) -> None:
    place = real("mnist")
    for file in mnist.FILES:
        stem, _, rest = file.partition("-idx")
        path = tmp_path / folder / form.format(stem, rest[0])
        path.parent.mkdir(parents=True, exist_ok=True)
        content = gzip.decompress((place / file).read_bytes())
        path.write_bytes(gzip.compress(content, 1) if path.suffix == ".gz" else content)
    data = load("mnist", data_dir=str(tmp_path), validation=0.0)
    assert data.fingerprint == load_real("mnist", "mnist").fingerprint


def test_one_changed_label_of_mnist_is_refused(tmp_path: Path) -> None:
    place = real("mnist")
    for file in mnist.FILES:
        (tmp_path / file).symlink_to(place / file)
    labels = read_idx(place / mnist.FILES[1]).numpy()
    labels[59_999] = (labels[59_999] + 1) % 10
    (tmp_path / mnist.FILES[1]).unlink()
    (tmp_path / mnist.FILES[1]).write_bytes(gzip.compress(idx(labels)))
    with pytest.raises(ValueError, match=r"train-labels-idx1-ubyte\.gz is not the published file of mnist"):
        load("mnist", data_dir=str(tmp_path))


def test_other_names_of_the_tasks_of_cifar_are_refused(tmp_path: Path) -> None:
    place = real("cifar-100-binary")
    for file in ("train.bin", "test.bin"):
        (tmp_path / file).symlink_to(place / file)
    names = (place / cifar.NAMES).read_text().split()
    names[3], names[4] = names[4], names[3]
    (tmp_path / cifar.NAMES).write_text("\n".join(names))
    with pytest.raises(ValueError, match=rf"{cifar.NAMES} is damaged.*download cifar --data-dir {tmp_path}"):
        load("cifar", data_dir=str(tmp_path))


# CIFAR's records


def read_cifar(content: bytes, count: int, path: Path, sha256: str | None = None) -> np.ndarray:
    path.write_bytes(content)
    images, labels = np.empty((count, 3, 32, 32), np.uint8), np.empty((count, 2), np.uint8)
    cifar.read_records(path, images, labels, sha256 or hashlib.sha256(content).hexdigest())
    return np.concatenate([labels, images.reshape(count, -1)], axis=1)


def test_records_are_read_as_written_and_broken_ones_refused(tmp_path: Path) -> None:
    path, content = tmp_path / "train.bin", np.random.default_rng(0).bytes(1001 * 3074)
    assert read_cifar(content, 1001, path).tobytes() == content
    good = hashlib.sha256(content).hexdigest()
    for broken in (b"", content[:-1], content + b"!"):
        with pytest.raises(ValueError, match=r"train\.bin has \d+ bytes, not 1001 records.*download cifar"):
            read_cifar(broken, 1001, path)
    with pytest.raises(ValueError, match=r"train\.bin is damaged.*download cifar"):
        read_cifar(flipped(content, 2_000_000), 1001, path, good)


def test_swapped_cifar_files_are_refused(tmp_path: Path) -> None:
    place = real("cifar-100-binary")
    (tmp_path / "train.bin").symlink_to(place / "test.bin")
    (tmp_path / "test.bin").symlink_to(place / "train.bin")
    (tmp_path / cifar.NAMES).symlink_to(place / cifar.NAMES)
    with pytest.raises(ValueError, match=r"train\.bin and test\.bin swapped"):
        load("cifar", data_dir=str(tmp_path))


def test_fine_labels_are_numbered_in_ascending_order_and_checked() -> None:
    fine = torch.randperm(100, generator=torch.Generator().manual_seed(0))
    coarse = torch.arange(100) % 20
    number = cifar.number_fine_labels(coarse.repeat(3), fine.repeat(3))
    for c in range(20):
        assert number[fine[coarse == c].sort().values].tolist() == [0, 1, 2, 3, 4]
    collision = fine.clone()
    collision[1] = collision[0]
    with pytest.raises(ValueError, match="not CIFAR-100's"):
        cifar.number_fine_labels(coarse, collision)
    with pytest.raises(ValueError, match="not CIFAR-100's"):
        cifar.number_fine_labels((torch.arange(100) // 10), fine)


# Mini-ImageNet's pictures and tables


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
