"""Mixtures, attention and ensembles against loops over their published formulas and against simpler networks."""

from __future__ import annotations

from itertools import pairwise
from math import erf, sqrt
from pathlib import Path
from typing import Any

import pytest
import torch
from plans import BLOCKS, TASKS, a_plan, apply, check_resumption, lanes, restarted
from torch import Tensor, nn
from worlds import little_data

from routing_env.baselines import make_baseline
from routing_env.baselines.base import Plan, count_parameters
from routing_env.baselines.dselect_k import DSelectK, smooth_step
from routing_env.baselines.ensemble import Ensemble
from routing_env.baselines.mmoe import MMoE
from routing_env.baselines.moe import MoE, load_probability, squared_variation
from routing_env.baselines.mtan import MTAN
from routing_env.baselines.ple import PLE
from routing_env.baselines.soft_modularization import SoftModularization
from routing_env.baselines.task_specific_1_fc import TaskSpecific1FC
from routing_env.baselines.task_specific_all_fc import TaskSpecificAllFC
from routing_env.game.evaluation import Score
from routing_env.types import Batch

WIDTHS = [(5, 7, 6, 2), (5, 7, 2), (5, 2)]


def block(bank: Any, number: int) -> Any:
    """A block of a bank."""
    return bank.blocks[number]


def a_batch() -> tuple[Score, Batch, Plan]:
    """How samples of three tasks are scored, eight of them, and a plan for them."""
    data = little_data(5)
    batch = Batch(*(part[:8] for part in vars(next(iter(data.batches("train", 36)))).values()))
    return Score(data), batch, a_plan()


def plain_loss(network: Any, score: Score, batch: Batch) -> Tensor:
    return score(network(batch.x, batch.task), batch)[1]


@pytest.mark.parametrize("widths", WIDTHS)
@pytest.mark.parametrize("k", [1, 3])
def test_moe_is_its_formula(widths: tuple[int, ...], k: int) -> None:
    network = restarted(MoE(a_plan(*widths), k=k)).eval()
    x, task = lanes()
    for lane, t in enumerate(task.tolist()):
        expected = gated(network, x[lane], t, block(network.gates, t).weight @ x[lane], k)
        torch.testing.assert_close(network(x, task)[lane], expected, rtol=1e-4, atol=1e-5)


def gated(network: MoE, v: Tensor, t: int, h: Tensor, k: int) -> Tensor:
    """The top k experts of one sample, weighted, and its tower."""
    top = sorted(range(BLOCKS), key=lambda i: -h[i].item())[:k]
    total = sum((h[i].exp() for i in top), torch.zeros(()))
    mixed = torch.zeros(())
    for i in top:
        output = v
        for bank in network.experts:
            output = block(bank, i)(output)
        mixed = mixed + h[i].exp() / total * output
    return mixed if network.towers is None else block(network.towers, t)(mixed)


def test_the_noise_and_the_balance_loss_of_moe_are_their_formulas() -> None:
    score, batch, plan = a_batch()
    network = restarted(MoE(plan, k=2, balance=0.3))
    generator = torch.Generator()
    generator.set_state(network.noise.get_extra_state())
    noise = torch.randn(len(batch), BLOCKS, generator=generator)
    loss, _ = network.training_loss(batch, score)
    importance, load, outputs = torch.zeros(BLOCKS), torch.zeros(BLOCKS), list[Tensor]()
    for v, t, e in zip(batch.x, batch.task.tolist(), noise, strict=True):
        clean, scale = block(network.gates, t).weight @ v, (block(network.noise_gates, t).weight @ v).exp().log1p()
        h = clean + e * scale
        outputs.append(gated(network, v, t, h, 2))
        top = sorted(range(BLOCKS), key=lambda i: -h[i].item())[:2]
        importance[top] += h[top].softmax(0)
        for i in range(BLOCKS):
            others = sorted((h[j].item() for j in range(BLOCKS) if j != i), reverse=True)
            load[i] += (1 + erf((clean[i].item() - others[1]) / scale[i].item() / sqrt(2))) / 2
    balance = sum(((amount - amount.mean()) / amount.mean()).square().mean() for amount in (importance, load))
    expected = score(torch.stack(outputs), batch)[1] + 0.3 * balance
    torch.testing.assert_close(loss, expected, rtol=1e-4, atol=1e-4)


def test_the_parts_of_the_balance_loss_by_hand() -> None:
    assert squared_variation(torch.tensor([1.0, 3.0])).item() == 0.25  # variance 1, mean 2
    assert squared_variation(torch.tensor([2.0, 2.0])).item() == 0
    h = torch.tensor([[3.0, 1.0, 2.0]])
    one, two = load_probability(h, h, torch.ones(1, 3), 1), load_probability(h, h, torch.full((1, 3), 0.5), 2)
    torch.testing.assert_close(one, torch.tensor([[0.841345, 0.022750, 0.158655]]))  # Phi of 1, -2 and -1
    torch.testing.assert_close(two, torch.tensor([[0.999968, 0.022750, 0.977250]]))  # Phi of 4, -2 and 2


@pytest.mark.parametrize("widths", WIDTHS)
def test_moe_with_all_experts_is_the_dense_mixture(widths: tuple[int, ...]) -> None:
    sparse, dense = restarted(MoE(a_plan(*widths), k=BLOCKS)).eval(), MMoE(a_plan(*widths))
    with torch.no_grad():
        dense.gates.load_state_dict(sparse.gates.state_dict())
        if dense.towers is not None and sparse.towers is not None:
            dense.towers.load_state_dict(sparse.towers.state_dict())
        for layer, bank in zip(dense.experts, sparse.experts, strict=True):
            for i in range(BLOCKS):
                expert = block(bank, i)
                linear: Any = expert[0] if isinstance(expert, nn.Sequential) else expert
                layer.weight[i] = linear.weight.T  # pyright: ignore[reportIndexIssue]
                layer.bias[i, 0] = linear.bias  # pyright: ignore[reportIndexIssue]
    x, task = lanes()
    torch.testing.assert_close(sparse(x, task), dense(x, task), rtol=1e-4, atol=1e-5)


def test_moe_applies_chosen_experts_alone_and_has_no_noise_in_evaluation() -> None:
    network = MoE(a_plan(), k=2)
    with torch.no_grad():
        for gate in network.gates.blocks:
            gate.weight[:, 0] = torch.tensor([0.0, 1.0, 0.0, 1.0])  # pyright: ignore[reportIndexIssue]
    x, task = lanes()
    x[:, 0] = 50.0
    assert torch.equal(network.eval()(x, task), network(x, task))
    network(x, task).sum().backward()
    for bank in network.experts:
        for i in range(BLOCKS):
            assert all((parameter.grad is not None) == (i in (1, 3)) for parameter in block(bank, i).parameters())
    noisy = network.train()
    x[:, 0] = 0.0
    assert not torch.equal(noisy(x, task), noisy(x, task))


@pytest.mark.parametrize("widths", WIDTHS)
@pytest.mark.parametrize(("own", "shared"), [(1, 2), (2, 1)])
def test_ple_is_its_formula(widths: tuple[int, ...], own: int, shared: int) -> None:
    network = restarted(PLE(a_plan(*widths), own=own, shared=shared))
    x, task = lanes()
    levels = len(network.gates)
    for lane, t in enumerate(task.tolist()):
        private = common = x[lane]
        for level in range(levels):
            together = block(network.own_experts[level], t)(private)
            width = len(together) // own
            experts = [together[i * width : (i + 1) * width] for i in range(own)]
            for i in range(shared):
                output = apply(network.shared_experts[level], i, common)
                experts.append(output if network.towers is None else output.relu())
            gate = (block(network.gates[level], t).weight @ private).softmax(0)
            if level < levels - 1:
                shared_gate = network.shared_gates[level](common).softmax(0)
                common = sum((g * e for g, e in zip(shared_gate, experts, strict=True)), torch.zeros(()))
            private = sum((g * e for g, e in zip(gate, experts, strict=True)), torch.zeros(()))
        expected = private if network.towers is None else block(network.towers, t)(private)
        torch.testing.assert_close(network(x, task)[lane], expected, rtol=1e-4, atol=1e-5)


def test_cgc_whose_gates_take_the_tasks_own_expert_is_a_network_per_task() -> None:
    cgc, apart = PLE(a_plan(5, 7, 2)), TaskSpecificAllFC(a_plan(5, 7, 2))
    with torch.no_grad():
        for gate in cgc.gates[0].blocks:  # pyright: ignore
            gate.weight.zero_()[0, 0] = 1.0  # pyright: ignore
    assert cgc.towers is not None
    apart.layers[0].load_state_dict(cgc.own_experts[0].state_dict())
    apart.layers[1].load_state_dict(cgc.towers.state_dict())
    x, task = lanes()
    x[:, 0] = 100.0  # the softmax over 100, 0 and 0 is one-hot in float32
    torch.testing.assert_close(cgc(x, task), apart(x, task))


@pytest.mark.parametrize("widths", WIDTHS)
@pytest.mark.parametrize("experts", [2, 4, 5])
def test_dselect_k_is_its_formula(widths: tuple[int, ...], experts: int) -> None:
    network = restarted(DSelectK(a_plan(*widths), experts=experts, k=3, gamma=3.0))
    x, task = lanes()
    bits = network.codes.shape[2]
    for lane, t in enumerate(task.tolist()):
        mixed = torch.zeros(())
        for selector in range(3):
            for code in range(2**bits):
                share = network.logits[t].softmax(0)[selector]
                for bit in range(bits):
                    step = smooth_step(network.codes[t, selector, bit], 3.0)
                    share = share * (step if code >> bit & 1 else 1 - step)
                output = x[lane]
                for layer in network.experts:
                    output = apply(layer, code % experts, output)
                    output = output if network.towers is None else output.relu()
                mixed = mixed + share * output
        expected = mixed if network.towers is None else block(network.towers, t)(mixed)
        torch.testing.assert_close(network(x, task)[lane], expected, rtol=1e-4, atol=1e-5)


def test_the_smooth_step_by_hand() -> None:
    z = torch.tensor([-9.0, -0.5, 0.0, 0.25, 0.5, 9.0], requires_grad=True)
    torch.testing.assert_close(smooth_step(z, 1.0), torch.tensor([0.0, 0.0, 0.5, 0.84375, 1.0, 1.0]))
    torch.testing.assert_close(smooth_step(2 * z, 2.0), smooth_step(z, 1.0))
    smooth_step(z, 1.0).sum().backward()
    assert z.grad is not None
    torch.testing.assert_close(z.grad, torch.tensor([0.0, 0.0, 1.5, 1.125, 0.0, 0.0]))


def test_decided_selectors_choose_at_most_k_experts() -> None:
    score, batch, plan = a_batch()
    network = DSelectK(plan, experts=6, k=2, entropy=1.0)
    selections = network.selections()
    torch.testing.assert_close(selections.sum(2), torch.ones(TASKS, 2))
    assert (selections > 0).all()
    with torch.no_grad():
        network.codes.copy_(torch.tensor([[1, -1, 1], [-1, 1, 1]]).expand(TASKS, -1, -1))
    assert [[[e for e in range(6) if row[e]] for row in task] for task in network.selections().tolist()] == [
        [[5], [0]]  # the codes 5 and 6, of which 6 stands for expert 0
    ] * TASKS
    assert set(network.selections().unique().tolist()) == {0.0, 1.0}
    loss, _ = network.training_loss(batch, score)
    torch.testing.assert_close(loss, plain_loss(network, score, batch), atol=1e-5, rtol=0)
    loss.mean().backward()
    assert all(parameter.grad is None or parameter.grad.isfinite().all() for parameter in network.parameters())


def test_the_entropies_of_dselect_k_are_those_of_the_lanes_task() -> None:
    score, batch, plan = a_batch()
    network = DSelectK(plan, k=2, entropy=0.5)
    with torch.no_grad():
        network.codes.zero_()
        network.codes[1] = 1.0  # task 1 has decided
    loss, _ = network.training_loss(batch, score)
    undecided = 2 * torch.tensor(float(BLOCKS)).log()  # two selectors, uniform over four experts
    expected = plain_loss(network, score, batch) + 0.5 * undecided * (batch.task != 1)
    torch.testing.assert_close(loss, expected, atol=1e-4, rtol=0)


@pytest.mark.parametrize("widths", [(5, 7, 8, 6, 2), *WIDTHS])
def test_soft_modularization_is_its_formula(widths: tuple[int, ...]) -> None:
    network = restarted(SoftModularization(a_plan(*widths), modules=3, embedding=4))
    x, task = lanes()
    layers = len(network.layers)
    for lane, t in enumerate(task.tolist()):
        seen = network.features(x[lane]) * network.tasks.weight[t]
        p = network.down[0](seen.relu())
        inputs = [x[lane]] * 3
        for number, layer in enumerate(network.layers):
            outputs = [apply(layer, j, inputs[j]) for j in range(3)]
            outputs = [output if network.towers is None else output.relu() for output in outputs]
            rows = p.view(-1, 3)
            assert len(rows) == (1 if number == layers - 1 else 3)
            inputs = [sum((row.softmax(0)[j] * outputs[j] for j in range(3)), torch.zeros(())) for row in rows]
            if number < layers - 1:
                p = network.down[number + 1]((network.up[number](p) * seen).relu())
        (mixed,) = inputs
        expected = mixed if network.towers is None else block(network.towers, t)(mixed)
        torch.testing.assert_close(network(x, task)[lane], expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("widths", WIDTHS)
def test_mtan_is_its_formula(widths: tuple[int, ...]) -> None:
    network = restarted(MTAN(a_plan(*widths), bottleneck=3))
    x, task = lanes()
    for lane, t in enumerate(task.tolist()):
        p, masked = x[lane], torch.zeros(0)
        for number in range(len(network.masks)):
            if len(network.trunk):
                p = network.trunk[number](p).relu()
            read = block(network.readers[number], t)[0](torch.cat([p, masked])).relu()
            masked = p / (1 + (-block(network.masks[number], t)(read)).exp())
        torch.testing.assert_close(network(x, task)[lane], block(network.heads, t)(masked), rtol=1e-4, atol=1e-5)


def test_mtan_whose_masks_are_open_shares_all_but_the_last_layer() -> None:
    open_, shared = MTAN(a_plan()), TaskSpecific1FC(a_plan())
    with torch.no_grad():
        for bank in open_.masks:
            for mask in bank.blocks:  # pyright: ignore
                mask.weight.zero_()  # pyright: ignore
                mask.bias.fill_(100.0)  # pyright: ignore
    shared.heads.load_state_dict(open_.heads.state_dict())
    for mine, theirs in zip(
        [layer for layer in shared.trunk if isinstance(layer, nn.Linear)], open_.trunk, strict=True
    ):
        mine.load_state_dict(theirs.state_dict())
    x, task = lanes()
    torch.testing.assert_close(open_(x, task), shared(x, task))


def with_stem(plan: Plan) -> Plan:
    stem = nn.Sequential(nn.Linear(5, 5), nn.BatchNorm1d(5))
    return Plan(stem, plan.widths, plan.tasks, plan.blocks, plan.hidden, plan.parameters)


@pytest.mark.parametrize("of", ["task_specific_1_fc", "moe"])
def test_an_ensemble_of_one_is_the_network(of: str) -> None:
    score, batch, plan = a_batch()
    torch.manual_seed(0)
    network = make_baseline(of, with_stem(plan), width=9)
    torch.manual_seed(0)
    ensemble = make_baseline("ensemble", with_stem(plan), of=of, members=1, width=9)
    for mine, theirs in zip(network.training_loss(batch, score), ensemble.training_loss(batch, score), strict=True):
        assert torch.equal(mine, theirs)
    x, task = lanes()
    assert torch.equal(network.eval()(x, task), ensemble.eval()(x, task))
    assert count_parameters(network) == count_parameters(ensemble)


def test_members_start_differently_and_each_learns_from_its_own_loss() -> None:
    score, batch, plan = a_batch()
    plan = with_stem(plan)
    ensemble = Ensemble(plan, members=3)
    first, second, third = (member for member in ensemble.members if isinstance(member, TaskSpecific1FC))
    assert first.stem is plan.stem
    weights = [member.stem[0].weight for member in (first, second, third)]  # pyright: ignore
    assert not any(torch.equal(one, other) for one, other in pairwise([*weights, weights[0]]))
    loss, correct = ensemble.training_loss(batch, score)
    ensemble.backward(loss, batch.task)
    outputs = torch.stack([member(batch.x, batch.task) for member in (first, second, third)])
    torch.testing.assert_close(loss, torch.stack([score(output, batch)[1] for output in outputs]).mean(0))
    assert torch.equal(correct, outputs.mean(0).argmax(1) == batch.target)
    shared = [*second.stem.parameters(), *second.trunk.parameters()]
    alone = torch.autograd.grad(score(outputs[1], batch)[1].mean(), shared)
    for parameter, gradient in zip(shared, alone, strict=True):
        torch.testing.assert_close(parameter.grad, gradient / 3)


def test_an_ensemble_predicts_the_geometric_mean_of_its_members_probabilities() -> None:
    ensemble = Ensemble(a_plan(), members=3)
    x, task = lanes()
    product = torch.stack([member(x, task).softmax(1) for member in ensemble.members]).prod(0) ** (1 / 3)
    torch.testing.assert_close(ensemble(x, task).softmax(1), product / product.sum(1, keepdim=True))


@pytest.mark.parametrize("of", ["task_specific_1_fc", "task_specific_all_fc", "dense", "mmoe"])
def test_an_ensemble_has_as_many_parameters_as_stem_and_routed_layers(of: str) -> None:
    plan = with_stem(a_plan(5, 40, 40, 4))
    ensemble = make_baseline("ensemble", plan, of=of, members=3)
    allowed = plan.parameters + count_parameters(plan.stem)
    assert 0.9 * allowed <= count_parameters(ensemble) <= allowed


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("moe", {"k": 5}, "k is 5; it must be an integer from 1 to the number of experts, 4"),
        ("moe", {"experts": 0}, "experts is 0"),
        ("moe", {"balance": -1}, "balance is -1; it must be at least 0"),
        ("ple", {"shared": 0}, "shared is 0"),
        ("dselect_k", {"experts": 1}, "experts is 1; it must be an integer of at least 2"),
        ("dselect_k", {"gamma": 0}, "gamma is 0; it must be above 0"),
        ("soft_modularization", {"modules": 1.5}, "modules is 1.5"),
        ("mtan", {"bottleneck": 0}, "bottleneck is 0"),
        ("ensemble", {"members": 0}, "members is 0"),
        ("ensemble", {"of": "mmoo"}, "did you mean 'mmoe'"),
    ],
)
def test_options_out_of_range_are_refused(name: str, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make_baseline(name, a_plan(), **options)


@pytest.mark.parametrize(
    ("name", "options"),
    [("moe", ("depth=2",)), ("dselect_k", ()), ("ensemble", ("of=moe", "members=2"))],
)
def test_a_resumed_run_ends_with_the_same_bits(name: str, options: tuple[str, ...], tmp_path: Path) -> None:
    """The noise of moe included; what the other networks keep are parameters alone."""
    given: dict[str, Any] = {"router": name, "router_options": options, "data": "planted", "momentum": 0.5}
    check_resumption({**given, "epochs": 2}, tmp_path)
