"""The files of the data sets: the real ones, where they are looked for, and the records of CIFAR-100."""

import csv
import hashlib
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from real_data import REAL, load_real, per_task_and_class, real

from routing_env.data import cifar, load, mnist
from routing_env.data.download import SOURCES
from routing_env.data.files import find_files
from routing_env.data.idx import read_idx


def flipped(content: bytes, at: int) -> bytes:
    return content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :]


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
