"""IDX files: what is read, what is broken, and which data set it belongs to."""

import gzip
import hashlib
import tempfile
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from real_data import load_real, real

from routing_env.data import cifar, load, mnist
from routing_env.data.idx import Checksums, is_published, read_idx


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
        (gzip.compress(idx(IMAGES, kind=13)), "not an IDX file of bytes"),
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
