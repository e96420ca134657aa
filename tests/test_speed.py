"""Measuring speed: the arithmetic on given timings, what is compared, and that every row can be measured."""

from __future__ import annotations

import csv
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from math import isnan
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from routing_env.agents import make_router
from routing_env.baselines import plan_beside
from routing_env.data import EndlessPass
from routing_env.maintenance.speed import measure
from routing_env.maintenance.speed.measure import Contest, Effort, Side, Timed, alternate, compare
from routing_env.maintenance.speed.plain import Plain, ordinary_step, plain_network
from routing_env.maintenance.speed.processes import FIRST_PLAIN_STEP, FIRST_STEP, process_time
from routing_env.maintenance.speed.rows import PLAIN, ROWS
from routing_env.maintenance.speed.seeds import many_seeds
from routing_env.maintenance.speed.speed_table import CSV_FIELDS, distances, save_speed, speed_markdown
from routing_env.maintenance.speed.workloads import Workload, deal_step, workload_on
from routing_env.types import State

SMALL = Workload(
    image=(3, 8, 8), hidden=8, tasks=3, blocks=3, batch=4, batches=(4,), counts=(2, 4), samples=12, epochs=1
)
ONCE = Effort(seconds=0.0, least=1)


def given(numbers: list[float], log: list[str] | None = None, name: str = "") -> Callable[[], float]:
    """A measurement that returns one number after the other, and notes that it was asked."""
    rest = iter(numbers)

    def measure() -> float:
        if log is not None:
            log.append(name)
        return next(rest)

    return measure


def test_sides_take_turns_and_every_round_begins_with_the_next() -> None:
    log: list[str] = []
    sides = [Side(name, given([0.0] * 9, log, name)) for name in "abc"]
    shares: list[float] = []
    values, _ = alternate(sides, Effort(seconds=0.0, least=4), progress=shares.append)
    assert "".join(log) == "abc" + "abc" + "bca" + "cab" + "abc"  # the first three are the warm-up
    assert [len(own) for own in values] == [4, 4, 4]
    assert shares == sorted(shares)
    assert shares[-1] == 1


def test_medians_and_quartiles_are_those_of_the_rounds_without_the_warm_up() -> None:
    base, own = [9.0, 2.0, 4.0, 1.0, 2.5], [99.0, 3.0, 5.0, 4.0, 3.5]
    contest = Contest("a", "title", lambda: [Side("base", given(base)), Side("own", given(own), bar=1.5)])
    (result,) = compare(contest, Effort(seconds=0.0, least=4))
    assert result.value.median == np.median(own[1:]) == 3.75
    assert result.base_value.median == np.median(base[1:]) == 2.25
    assert result.ratio.median == 3.75 / 2.25
    rounds = np.divide(own[1:], base[1:])
    assert [result.ratio.low, result.ratio.high] == pytest.approx([*np.percentile(rounds, [25, 75])])
    assert [result.value.low, result.value.high] == pytest.approx([*np.percentile(own[1:], [25, 75])])
    assert result.rounds == 4
    assert result.holds is False


def test_who_takes_too_long_is_left_out_and_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measure, "PATIENCE", -1.0)
    contest = Contest("b", "title", lambda: [Side("base", given([1.0] * 9)), Side("slow", given([1.0]))])
    (result,) = compare(contest, Effort(seconds=0.0, least=2))
    assert result.rounds == 0
    assert "left out" in result.note
    assert "left out" in speed_markdown([result], SMALL)
    assert isnan(result.ratio.median)
    assert result.holds is None


def test_the_distance_to_the_plain_network_is_one_line_for_each_kind_of_network() -> None:
    contests = [
        Contest("a", f"training step, {kind}, batch {batch}", partial(_two_sides, ratio))
        for kind, batch, ratio in (("conv + fc", 10, 1.5), ("conv + fc", 64, 1.25), ("fc alone", 10, 6.0))
    ]
    other = Contest("d", "episode, fc alone, 20 agents", partial(_two_sides, 1.1))
    results = [compare(contest, Effort(seconds=0.0, least=1))[0] for contest in [*contests, other]]
    first, second = distances(results)
    assert first.endswith("conv + fc: batch 10 1.50, batch 64 1.25")
    assert second.endswith("fc alone: batch 10 6.00")
    assert distances(results[3:]) == []


def _two_sides(ratio: float) -> list[Side]:
    return [Side("plain", given([2.0, 2.0])), Side("routed", given([2.0 * ratio] * 2))]


def test_as_many_rounds_as_the_time_allows() -> None:
    for seconds, expected in ((0.0, 3), (1e9, 7)):
        values, _ = alternate([Side("a", lambda: 1.0)], Effort(seconds=seconds, least=3, most=7))
        assert len(values[0]) == expected


def test_a_quick_step_is_repeated_and_its_time_shared() -> None:
    ticks, steps = iter(range(1000)), 0

    def step() -> None:
        nonlocal steps
        steps += 1

    # Each look at this clock comes 1/128 s after the last, however many steps are between them.
    timed = Timed(step, clock=lambda: next(ticks) / 128)
    expected = 20  # steps that fill 0.05 s where three take 1/128 s
    assert timed() == pytest.approx(1000 / 128 / expected)
    assert steps == 1 + 3 + expected
    assert timed() == pytest.approx(1000 / 128 / expected)
    assert steps == 1 + 3 + 2 * expected


@pytest.mark.parametrize("convolutional", [True, False])
def test_the_plain_network_computes_what_the_routed_one_does_with_one_block(convolutional: bool) -> None:
    workload = replace(SMALL, blocks=1, convolutional=convolutional)
    game = workload.game()
    batch = EndlessPass(game.data, 4, 0).next_batch()

    def only(state: State) -> Tensor:
        return torch.zeros_like(state.task)

    output, _ = game.network.eval()(batch.x, batch.task, only)
    assert output.equal(plain_network(game.network)(batch.x))


@pytest.mark.parametrize("convolutional", [True, False])
def test_the_plain_step_learns_what_the_routed_one_learns_with_one_block(convolutional: bool) -> None:
    workload = replace(SMALL, blocks=1, convolutional=convolutional)
    data = workload.data()
    game, other = workload.game(data), workload.game(data)
    network = plain_network(other.network)
    before = [parameter.detach().clone() for parameter in network.parameters()]
    routed = deal_step(game, workload.batch)
    plain = ordinary_step(network, lambda batch: network(batch.x), other.dealer, learning_rate=0.01)
    for _ in range(5):
        routed()
        plain()
    ours, theirs = game.network.parameters(), network.parameters()
    moved = 0.0
    for own, other_own, start in zip(ours, theirs, before, strict=True):
        torch.testing.assert_close(own, other_own)
        moved = max(moved, float((own.detach() - start).abs().max()))
    assert moved > 1e-3


def test_the_plain_entrant_is_the_plain_network() -> None:
    workload = replace(SMALL, blocks=1)
    data = workload.data()
    game = workload.game(data)
    assert game.settings is not None
    network = game.network
    entrant, plain = Plain(plan_beside(network, data.tasks, game.settings)), plain_network(network)
    entrant.layers.load_state_dict(torch.nn.Sequential(*_linears_and_activations(plain)).state_dict())
    x = torch.rand(5, *workload.image)
    assert entrant.eval()(x, torch.zeros(5, dtype=torch.int64)).equal(plain(x))
    assert f"{Plain.__module__}:{Plain.__name__}" == PLAIN


def _linears_and_activations(plain: torch.nn.Sequential) -> list[torch.nn.Module]:
    flat: list[torch.nn.Module] = []
    for block in list(plain)[1:]:
        flat += list(block) if isinstance(block, torch.nn.Sequential) else [block]
    return flat


@pytest.mark.parametrize("row", sorted(set(ROWS) - {"f", "g", "j"}))
def test_every_row_can_be_measured(row: str, tmp_path: Path) -> None:
    contests = ROWS[row](SMALL)
    results = [result for contest in contests for result in compare(contest, ONCE)]
    assert results
    assert {result.row for result in results} == {row}
    for result in results:
        assert result.rounds == 1
        assert min(result.value.median, result.base_value.median, result.ratio.median) > 0
    saved = {path.name: path for path in save_speed(results, SMALL, tmp_path / "speed")}
    with saved["speed.csv"].open(newline="") as file:
        records = list(csv.DictReader(file))
    assert tuple(records[0]) == CSV_FIELDS
    assert [float(record["ratio"]) for record in records] == [result.ratio.median for result in results]
    assert [record["holds"] for record in records] == ["" if r.bar is None else str(r.holds) for r in results]
    lines = saved["speed.md"].read_text().splitlines()
    assert len({line.count("|") for line in lines[: 2 + len(results)]}) == 1
    for name in ("ratios.png", *(["growth.png"] if row == "b" else [])):
        with Image.open(saved[name]) as image:
            assert len(set(image.convert("L").resize((64, 64)).tobytes())) > 8, f"{name} is blank"


def test_the_games_that_are_timed_are_alike() -> None:
    data = SMALL.data()
    one, other = SMALL.game(data).dealer.next_batch(), replace(SMALL, blocks=1).game(data).dealer.next_batch()
    assert one.x.equal(other.x)
    assert one.task.equal(other.task)
    assert len(one) == SMALL.batch


def test_a_cuda_device_gets_all_of_cifar() -> None:
    assert workload_on("cpu", 1, quick=False) == Workload()
    with pytest.raises(ValueError, match="threads is 0"):
        workload_on("cpu", 0, quick=True)
    with pytest.raises(ValueError, match="'cuda:9' is not available"):
        workload_on("cuda:9", 1, quick=True)


def test_one_seed_at_once_is_that_seed() -> None:
    game, router = many_seeds(SMALL, 1)
    alone = make_router("wpl", SMALL.game().spec)
    router.play(game, 8 * SMALL.batch)
    alone.play(SMALL.game(), 8 * SMALL.batch)
    policy, other = router.state_dict()["tables"]["policy"], alone.state_dict()["tables"]["policy"]
    assert policy.equal(other)
    assert not policy.equal(make_router("wpl", SMALL.game().spec).state_dict()["tables"]["policy"])


def test_seeds_at_once_route_among_their_own_blocks() -> None:
    game, router = many_seeds(SMALL, 3)
    seen: set[tuple[int, int]] = set()
    for _ in range(20):
        router.play(game, 3 * SMALL.batch)
        trace = game.game.trace
        assert (trace.actions // SMALL.blocks == (trace.task // SMALL.tasks)[:, None]).all()
        seen |= set(zip(trace.task.tolist(), trace.actions[:, 0].tolist(), strict=True))
    assert len(seen) == 3 * SMALL.tasks * SMALL.blocks


def test_memory_is_measured_in_a_fresh_process() -> None:
    (contest,) = ROWS["f"](SMALL)
    sides = contest.sides()
    assert sides[-1].measure() > 0


def test_start_up_is_measured_in_fresh_processes() -> None:
    imports, _, command_line = ROWS["g"](SMALL)
    for contest in (imports, command_line):
        for result in compare(contest, ONCE):
            assert result.ratio.median > 0
    for code in (FIRST_STEP, FIRST_PLAIN_STEP):
        exec(code, {})


def test_a_process_that_fails_says_why() -> None:
    with pytest.raises(OSError, match="no_such_module"):
        process_time("-c", "import no_such_module", threads=1)()


def speed(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "routing_env.maintenance.speed", *arguments]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False)


def test_the_command_line_saves_what_it_prints(tmp_path: Path) -> None:
    ran = speed("--rows", "e", "--quick", cwd=tmp_path)
    assert ran.returncode == 0, ran.stderr
    with (tmp_path / "runs" / "speed" / "speed.csv").open(newline="") as file:
        (record,) = csv.DictReader(file)
    assert record["row"] == "e"
    printed = ran.stdout
    assert f"{float(record['ratio']):.3f}" in printed
    for name in ("speed.csv", "speed.md", "ratios.png"):
        assert f"runs/speed/{name}" in printed
        assert (tmp_path / "runs" / "speed" / name).is_file()


def test_the_command_line_names_a_wrong_device(tmp_path: Path) -> None:
    failed = speed("--rows", "e", "--device", "cuda:9", cwd=tmp_path)
    assert failed.returncode == 1
    assert failed.stderr.startswith("error: ")
    assert "'cuda:9' is not available" in failed.stderr
    assert not list(tmp_path.iterdir())
