"""The blocks' C++ path against the Python path, to the bit; skipped where there is no C++ compiler."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from filelock import FileLock
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from routing_env.game import compiled_maps, linear_maps
from routing_env.game.build import make_game
from routing_env.game.compiled_maps import ChosenMaps
from routing_env.types import Decision

COMPILE = """
import sys
from pathlib import Path
from routing_env.game import compiled_maps
compiled_maps.SOURCE = Path(sys.argv[1])
compiled_maps.compile_maps()
"""


@pytest.fixture(scope="module")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> ChosenMaps:
    """The C++ path, compiled once for all processes of the tests in a folder of its own."""
    if linear_maps._compiled is not None:  # pyright: ignore[reportPrivateUsage]
        return linear_maps._compiled  # pyright: ignore[reportPrivateUsage]
    if shutil.which("c++") is None:
        pytest.skip("there is no C++ compiler")
    source = tmp_path_factory.getbasetemp().parent / "compiled" / compiled_maps.SOURCE.name
    source.parent.mkdir(exist_ok=True)
    with FileLock(source.with_suffix(".lock")), pytest.MonkeyPatch.context() as patch:
        if not source.exists():
            shutil.copy(compiled_maps.SOURCE, source)
            subprocess.run([sys.executable, "-c", COMPILE, str(source)], check=True)
        patch.setattr(compiled_maps, "SOURCE", source)
        operation = compiled_maps.compiled_maps()
    assert operation is not None
    return operation


def python_maps(v: Tensor, order: Tensor, rows: list[int], parameters: list[Tensor]) -> Tensor:
    return linear_maps._ChosenMaps.apply(v, order, rows, *parameters)  # pyright: ignore


def a_case(rows: list[int], width: int, outputs: int, *, biased: bool, dtype: torch.dtype) -> tuple[Any, ...]:
    """Arguments of both paths, in which everything asks for a gradient."""
    generator = torch.Generator().manual_seed(0)
    shapes = [(outputs, width)] * len(rows) + [(outputs,)] * (len(rows) if biased else 0)
    v, *parameters = (
        torch.randn(shape, generator=generator, dtype=dtype).requires_grad_() for shape in [(sum(rows), width), *shapes]
    )
    return v, torch.randperm(sum(rows), generator=generator), rows, parameters


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("biased", [True, False])
@pytest.mark.parametrize("rows", [[1], [7], [3, 1, 4], [25, 19, 20], [1] * 40])
def test_same_bits_forward_and_backward(
    compiled: ChosenMaps, rows: list[int], biased: bool, dtype: torch.dtype
) -> None:
    v, order, rows, parameters = a_case(rows, 33, 17, biased=biased, dtype=dtype)
    outputs = [maps(v, order, rows, parameters) for maps in (python_maps, compiled)]
    gradients = [torch.autograd.grad(output.square().sum(), [v, *parameters]) for output in outputs]
    for ours, theirs in zip([outputs[1], *gradients[1]], [outputs[0], *gradients[0]], strict=True):
        assert torch.equal(ours, theirs)
        assert ours.stride() == theirs.stride()


def test_what_needs_no_gradient_gets_none(compiled: ChosenMaps) -> None:
    v, order, rows, parameters = a_case([2, 3], 4, 3, biased=True, dtype=torch.float32)
    output = compiled(v.detach(), order, rows, [parameters[0].detach(), *parameters[1:]])
    gradients = torch.autograd.grad(output.sum(), parameters, allow_unused=True)
    assert [one is None for one in gradients] == [True, False, False, False]
    with torch.no_grad():
        assert compiled(v, order, rows, parameters).grad_fn is None


def test_both_paths_refuse_a_second_derivative(compiled: ChosenMaps) -> None:
    v, order, rows, parameters = a_case([2, 3], 4, 3, biased=True, dtype=torch.float32)
    for maps in (python_maps, compiled):
        (once,) = torch.autograd.grad(maps(v, order, rows, parameters).square().sum(), v, create_graph=True)
        with pytest.raises(RuntimeError, match="twice"):
            once.sum().backward()


def test_its_operations_are_counted(compiled: ChosenMaps) -> None:
    v, order, rows, parameters = a_case([2, 3, 6], 4, 3, biased=True, dtype=torch.float32)
    counts: list[int] = []
    for maps in (python_maps, compiled):
        with FlopCounterMode(display=False) as counter:
            maps(v, order, rows, parameters).sum().backward()
        counts.append(counter.get_total_flops())
    assert counts[1] == counts[0] == 3 * 2 * 11 * 4 * 3


@pytest.mark.parametrize("settings", [{}, {"momentum": 0.9, "weight_decay": 0.01}, {"optimizer": "adam"}])
def test_games_train_to_the_same_bits(
    compiled: ChosenMaps, settings: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    states: list[dict[str, Tensor]] = []
    for maps in (None, compiled):
        monkeypatch.setattr(linear_maps, "_compiled", maps)
        game = make_game(data="planted", batch_size=32, learning_rate=0.01, seed=3, **settings)
        generator = torch.Generator().manual_seed(1)
        for _ in range(10):
            game.reset()
            for _ in range(game.spec.depth):
                game.step(Decision(torch.randint(game.spec.actions, (32,), generator=generator)))
        states.append(game.network.state_dict())
        batch = next(game.data.batches("test", 4))
        output = game.network(batch.x, batch.task, lambda state: state.task * 0)[0]
        names: list[str] = []
        node = output.grad_fn
        while node is not None:
            names.append(node.name())
            node = next((following for following, _ in node.next_functions if following is not None), None)
        assert any("CppNode<ChosenMaps>" in name for name in names) == (maps is not None), (
            "not the path it is meant for"
        )
    for name, value in states[0].items():
        assert torch.equal(states[1][name], value), name


def test_another_source_or_torch_is_another_library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = compiled_maps.library_path()
    monkeypatch.setattr(torch, "__version__", "9.9")
    other_torch = compiled_maps.library_path()
    source = tmp_path / compiled_maps.SOURCE.name
    source.write_text(compiled_maps.SOURCE.read_text() + "\n", encoding="utf-8")
    monkeypatch.setattr(compiled_maps, "SOURCE", source)
    assert len({before.name, other_torch.name, compiled_maps.library_path().name}) == 3
    assert compiled_maps.compiled_maps() is None


def test_what_cannot_be_compiled_or_loaded_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = tmp_path / compiled_maps.SOURCE.name
    source.write_text("no C++", encoding="utf-8")
    monkeypatch.setattr(compiled_maps, "SOURCE", source)
    compiled_maps.library_path().write_bytes(b"not a library")
    with pytest.raises(OSError, match=r"\.so cannot be loaded; delete it"):
        compiled_maps.compiled_maps()
    compiled_maps.library_path().unlink()
    if shutil.which("c++") is not None:
        with pytest.raises(OSError, match=r"linear_maps\.cpp cannot be compiled"):
            compiled_maps.compile_maps()
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(FileNotFoundError, match=r"is not on the PATH; install a C\+\+ compiler"):
        compiled_maps.compile_maps()
    assert list(tmp_path.iterdir()) == [source]
