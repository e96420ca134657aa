"""A bank equals its blocks applied row by row, forwards and backwards."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from typing import cast

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn.utils import parametrize, prune
from worlds import bits, little_data, little_game, noise, play

from routing_env.game.blocks import BlockBank
from routing_env.game.network import RoutedNetwork

BlockFactory = Callable[[int, int], nn.Module]

GROUPED: dict[str, BlockFactory] = {
    "linear": nn.Linear,
    "linear without bias": lambda i, o: nn.Linear(i, o, bias=False),
    "linear and ReLU": lambda i, o: nn.Sequential(nn.Linear(i, o), nn.ReLU()),
    "linear and ReLU in place": lambda i, o: nn.Sequential(nn.Linear(i, o), nn.ReLU(inplace=True)),
    "linear and leaky ReLU": lambda i, o: nn.Sequential(nn.Linear(i, o), nn.LeakyReLU(0.3)),
    "linear in a box, without bias": lambda i, o: nn.Sequential(nn.Linear(i, o, bias=False)),
}
OTHERS: dict[str, BlockFactory] = {
    "deep": lambda i, o: nn.Sequential(nn.Linear(i, 3), nn.Tanh(), nn.Linear(3, o)),
    "normalised": lambda i, o: nn.Sequential(nn.LayerNorm(i), nn.Linear(i, o)),
    "parameterless": lambda i, o: nn.AdaptiveAvgPool1d(o),
}
ALL = GROUPED | OTHERS


def make_bank(kinds: list[str], inputs: int, outputs: int, seed: int) -> BlockBank:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return BlockBank([ALL[kind](inputs, outputs) for kind in kinds], (inputs,)).double()


def row_by_row(bank: BlockBank, v: Tensor, choice: list[int]) -> Tensor:
    return torch.cat([bank.blocks[block](v[row : row + 1]) for row, block in enumerate(choice)])


def gradients(output: Tensor, bank: BlockBank, v: Tensor) -> list[Tensor | None]:
    weights = noise(*output.shape, seed=7)
    return list(torch.autograd.grad((output * weights).sum(), [v, *bank.parameters()], allow_unused=True))


@given(
    kinds=st.one_of(
        st.builds(lambda kind, count: [kind] * count, st.sampled_from(list(ALL)), st.integers(1, 5)),
        st.lists(st.sampled_from(list(ALL)), min_size=1, max_size=5),
    ),
    inputs=st.integers(1, 5),
    outputs=st.integers(1, 5),
    data=st.data(),
)
def test_equals_the_chosen_block_row_by_row(kinds: list[str], inputs: int, outputs: int, data: st.DataObject) -> None:
    choice = data.draw(st.lists(st.integers(0, len(kinds) - 1), min_size=1, max_size=9))
    bank = make_bank(kinds, inputs, outputs, seed=data.draw(st.integers(0, 99)))
    v = noise(len(choice), inputs).requires_grad_()

    output, expected = bank(v, torch.tensor(choice)), row_by_row(bank, v, choice)

    torch.testing.assert_close(output, expected, rtol=1e-12, atol=1e-12)
    for ours, autograds in zip(gradients(output, bank, v), gradients(expected, bank, v), strict=True):
        assert (ours is None) == (autograds is None)
        if ours is not None:
            torch.testing.assert_close(ours, autograds, rtol=1e-12, atol=1e-12)
    bank(v, torch.tensor(choice)).sum().backward()
    for number, block in enumerate(bank.blocks):
        assert all((parameter.grad is None) == (number not in choice) for parameter in block.parameters())


@pytest.mark.parametrize("kind", GROUPED)
def test_the_grouped_path_and_the_generic_path_agree(kind: str) -> None:
    grouped = make_bank([kind] * 4, 5, 3, seed=1)
    generic = BlockBank([nn.Sequential(nn.Sequential(block)) for block in grouped.blocks], (5,))
    v, choice = noise(11, 5).requires_grad_(), torch.tensor([3, 0, 3, 3, 1, 0, 1, 1, 3, 0, 0])
    outputs = grouped(v, choice), generic(v, choice)
    kinds = ["ChosenMaps" in _nodes(output) for output in outputs]
    assert kinds == [True, False], "each path must be the one it is taken for"
    torch.testing.assert_close(*outputs, rtol=1e-12, atol=1e-12)
    for ours, theirs in zip(gradients(outputs[0], grouped, v), gradients(outputs[1], generic, v), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-12)


def _nodes(output: Tensor) -> str:
    """Names of the last two nodes of the graph."""
    last = output.grad_fn
    assert last is not None
    return " ".join(node.name() for node in (last, *(following for following, _ in last.next_functions)) if node)


@pytest.mark.parametrize("kind", ["linear", "linear without bias", "linear and leaky ReLU"])
def test_gradcheck_of_the_grouped_path(kind: str) -> None:
    bank = make_bank([kind] * 4, 3, 2, seed=2)
    choice = torch.tensor([2, 0, 2, 3, 0])
    v = noise(5, 3).requires_grad_()
    assert torch.autograd.gradcheck(lambda v, *_: bank(v, choice), (v, *bank.parameters()))


def test_every_chosen_block_is_called_once_and_no_other() -> None:
    calls = [0, 0, 0, 0]

    class Counted(nn.Module):
        def __init__(self, number: int) -> None:
            super().__init__()
            self.number = number

        def forward(self, v: Tensor) -> Tensor:
            calls[self.number] += 1
            return v + self.number

    bank = BlockBank([Counted(number) for number in range(4)], (2,))
    calls[:] = [0, 0, 0, 0]
    output = bank(torch.zeros(6, 2), torch.tensor([3, 1, 3, 1, 1, 3]))
    assert calls == [0, 1, 0, 1]
    assert output[:, 0].tolist() == [3, 1, 3, 1, 1, 3]


def _hook(bank: BlockBank) -> None:
    bank.blocks[1].register_forward_hook(lambda *_: torch.zeros(2, 2, dtype=torch.float64))


def _replace(bank: BlockBank) -> None:
    bank.blocks[1] = nn.Sequential(nn.Linear(3, 2), nn.ReLU()).double()


def _reparametrise(bank: BlockBank) -> None:
    linear = cast(nn.Sequential, bank.blocks[1])[0]
    parametrize.register_parametrization(linear, "weight", nn.Softplus())


def _prune(bank: BlockBank) -> None:
    prune.l1_unstructured(cast(nn.Sequential, bank.blocks[1])[0], "bias", amount=1)


@pytest.mark.parametrize("change", [_hook, _replace, _reparametrise, _prune])
def test_what_is_done_to_a_block_later_counts(change: Callable[[BlockBank], None]) -> None:
    bank = make_bank(["linear and leaky ReLU"] * 3, 3, 2, seed=4)
    v, choice = noise(5, 3), [1, 0, 1, 2, 2]
    before = bank(v, torch.tensor(choice))
    change(bank)
    after = bank(v, torch.tensor(choice))
    for number, block in enumerate(bank.blocks):
        rows = [row for row, chosen in enumerate(choice) if chosen == number]
        torch.testing.assert_close(after[rows], block(v[rows]))
        assert after[rows].equal(before[rows]) == (number != 1)


def test_a_block_may_begin_in_place() -> None:
    blocks = [nn.Sequential(nn.ReLU(inplace=True), nn.Linear(3, 2)) for _ in range(2)]
    bank = BlockBank(blocks, (3,)).double()
    v = noise(4, 3).requires_grad_()
    bank(2 * v, torch.tensor([1, 0, 1, 1])).sum().backward()
    assert v.grad is not None


def test_blocks_of_more_dimensions() -> None:
    blocks = [nn.Conv2d(2, 3, 3, padding=1), nn.Sequential(nn.Conv2d(2, 3, 1), nn.ReLU())]
    bank = BlockBank(blocks, (2, 4, 5)).double()
    v, choice = noise(5, 2, 4, 5), [1, 0, 0, 1, 1]
    assert bank.out_shape == (3, 4, 5)
    torch.testing.assert_close(bank(v, torch.tensor(choice)), row_by_row(bank, v, choice))


def test_trying_the_blocks_on_leaves_their_state_alone() -> None:
    frozen = nn.BatchNorm1d(2).eval()
    block = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2), frozen)
    before = {name: value.clone() for name, value in block.state_dict().items()}
    BlockBank([block], (2,))
    assert block.training
    assert block[1].training
    assert not frozen.training, "a part that was frozen stays frozen"
    assert all(torch.equal(value, before[name]) for name, value in block.state_dict().items())


def normalised_block(inputs: int, outputs: int) -> nn.Sequential:
    """A block with a batch norm, whose running statistics are not those that it starts with."""
    block = nn.Sequential(nn.Linear(inputs, outputs), nn.BatchNorm1d(outputs), nn.ReLU())
    for _ in range(3):
        block(torch.randn(8, inputs))
    return block


def buffers(module: nn.Module) -> list[Tensor]:
    return [buffer.clone() for buffer in module.buffers()]


def test_a_single_row_is_normalised_by_running_statistics_and_trains() -> None:
    torch.manual_seed(0)
    bank = BlockBank([normalised_block(3, 4) for _ in range(3)], (3,))
    alone, together, idle = bank.blocks
    v, choice = torch.randn(4, 3), torch.tensor([1, 0, 1, 1])
    before, twin = [buffers(block) for block in bank.blocks], deepcopy(together)

    output = bank(v, choice)

    assert torch.equal(output[1:2], deepcopy(alone).eval()(v[1:2]))
    assert torch.equal(output[choice == 1], twin(v[choice == 1])), "several rows are normalised as before"
    assert all(map(torch.equal, before[0], buffers(alone)))
    assert all(map(torch.equal, buffers(twin), buffers(together)))
    assert all(map(torch.equal, before[2], buffers(idle)))
    assert not all(map(torch.equal, before[1], buffers(together)))
    assert all(part.training for part in bank.modules())
    output.square().sum().backward()
    assert all(parameter.grad is not None and parameter.grad.any() for parameter in alone.parameters())
    assert all(parameter.grad is None for parameter in idle.parameters())


def test_a_single_row_leaves_alone_a_batch_norm_that_sees_several_values_or_is_frozen() -> None:
    """The first batch norm sees a map of 2x2, the second one value per channel, and the third is frozen."""
    torch.manual_seed(0)
    frozen = nn.BatchNorm1d(2).eval()
    block = nn.Sequential(nn.BatchNorm2d(2), nn.AvgPool2d(2), nn.BatchNorm2d(2), nn.Flatten(), frozen)
    bank, v = BlockBank([block], (2, 2, 2)), torch.randn(1, 2, 2, 2)
    nn.init.constant_(cast(Tensor, block[0].bias), 3.0)  # the mean of the map behind the first one
    expected = torch.full((1, 2), 3 / (1 + 1e-5))  # twice divided by the root of a variance of 1 + eps
    first, second, third = (buffers(block[place]) for place in (0, 2, 4))
    torch.testing.assert_close(bank(v, torch.tensor([0])), expected)
    assert not all(map(torch.equal, first, buffers(block[0])))
    assert all(map(torch.equal, second + third, buffers(block[2]) + buffers(frozen)))
    assert block[0].training
    assert block[2].training
    assert not frozen.training
    assert not any(part._forward_pre_hooks for part in block.modules())  # pyright: ignore[reportPrivateUsage]


def test_a_game_trains_blocks_with_batch_norm_that_get_one_row() -> None:
    def block(inputs: int, outputs: int) -> nn.Module:
        return nn.Sequential(nn.Linear(inputs, outputs), nn.BatchNorm1d(outputs))

    network = RoutedNetwork(nn.Identity(), [[block(3, 4) for _ in range(3)], [block(4, 2) for _ in range(2)]], (3,))
    game = little_game(network, little_data())
    before = bits(network.state_dict())
    play(game, [(0, 0), (1, 0), (1, 0), (1, 1), (1, 0)])
    after = bits(network.state_dict())
    changed = {name for name in before if before[name] != after[name]}
    assert {"banks.0.blocks.0.0.weight", "banks.1.blocks.1.1.weight"} <= changed
    assert not [name for name in changed if "blocks.2" in name]
    assert "banks.0.blocks.1.1.running_mean" in changed
    assert "banks.0.blocks.0.1.running_mean" not in changed


@pytest.mark.parametrize(
    ("blocks", "in_shape", "message"),
    [
        ([], (2,), "at least one block"),
        ([nn.Linear(2, 3), nn.Linear(2, 4)], (2,), r"one output shape; got block 0: \(3,\), block 1: \(4,\)"),
        ([nn.Linear(2, 3), nn.Linear(5, 3)], (2,), r"block 1 .* does not take samples of shape \(2,\)"),
        ([nn.BatchNorm2d(2)], (2,), r"block 0 .* does not take samples of shape \(2,\)"),
    ],
)
def test_blocks_that_do_not_fit(blocks: list[nn.Module], in_shape: tuple[int, ...], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        BlockBank(blocks, in_shape)
