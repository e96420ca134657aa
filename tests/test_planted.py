"""``planted``: what it plants, that the oracle is worth its name, and that a learner finds the planted partition."""

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import adjusted_rand_score

from routing_env.agents import make_router
from routing_env.data import MultiTaskData, load
from routing_env.data.planted import adjusted_rand_index, partition, partition_score, plant, regret
from routing_env.evaluations import Evaluation
from routing_env.game.build import make_game


def labels(data: MultiTaskData) -> torch.Tensor:
    """The training labels, int64 [groups, tasks per group, samples]."""
    assert data.groups is not None
    groups = max(data.groups) + 1
    return data.train.target.view(groups, data.tasks // groups, -1)


def test_groups_conflict_on_the_same_inputs_and_nobody_else_shares_any() -> None:
    data = plant(groups=3, tasks_per_group=2, samples=2000, features=8, validation=0)
    assert data.groups == (0, 0, 1, 1, 2, 2)
    index = data.train.index.view(3, 2, -1)
    assert (index == index[:1]).all()
    assert not torch.isin(index[0, 0], index[0, 1]).any()
    label = labels(data)
    for one, other in ((0, 1), (0, 2), (1, 2)):
        assert (label[one] == label[other]).float().mean() < 0.45


def test_a_group_has_one_labelling_function() -> None:
    data = plant(groups=2, tasks_per_group=2, samples=3000, features=6, validation=0)
    x, y = data.gather(data.train).x.double().view(2, 2, -1, 6), labels(data)
    for group in range(2):
        one_hot = torch.nn.functional.one_hot(y[group], 4).double()
        weights = torch.linalg.lstsq(x[group, 0], one_hot[0]).solution
        assert ((x[group, 1] @ weights).argmax(1) == y[group, 1]).float().mean() > 0.8
        assert ((x[1 - group, 1] @ weights).argmax(1) == y[1 - group, 1]).float().mean() < 0.5


def test_overlap_and_noise_do_what_they_say() -> None:
    def agreement(overlap: float) -> float:
        label = labels(plant(groups=2, samples=2000, features=16, overlap=overlap, validation=0))
        return float((label[0] == label[1]).float().mean())

    assert agreement(0.0) < agreement(0.5) < agreement(0.9) < agreement(1.0) == 1.0
    clean, noisy = plant(validation=0), plant(noise=0.4, validation=0)
    changed = (clean.train.target != noisy.train.target).float().mean().item()
    assert changed == pytest.approx(0.4 * 3 / 4, abs=0.03)
    assert torch.equal(clean.test.target, noisy.test.target)


def test_the_tasks_depend_on_their_own_seed_alone() -> None:
    one, other, elsewhere = plant(seed=0), plant(seed=1), plant(data_seed=1)
    assert torch.equal(one.inputs, other.inputs)
    assert not torch.equal(one.validation.index, other.validation.index)
    assert not torch.equal(one.inputs, elsewhere.inputs)


@pytest.mark.parametrize("knob", [{"groups": 0}, {"samples": 0}, {"overlap": 1.5}, {"noise": -0.1}])
def test_knobs_out_of_range_are_refused_by_name(knob: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=f"{next(iter(knob))} is {next(iter(knob.values()))}"):
        plant(**knob)  # pyright: ignore[reportArgumentType]


def test_partitions_and_their_score_worked_out_by_hand() -> None:
    routes = torch.zeros(4, 2, 3, dtype=torch.int64)
    for task, route in enumerate([(0, 1), (0, 1), (2, 1), (2, 0)]):
        for depth, action in enumerate(route):
            routes[task, depth, action] = 9
            routes[task, depth, (action + 1) % 3] = 4  # now and then they stray
    first, second, third, fourth = partition(routes)
    assert first == second
    assert len({first, third, fourth}) == 3
    # Pairs together: 1 in ours, 2 in the truth, 1 in both, of 6; expected 1/3; (1 - 1/3) / ((1 + 2) / 2 - 1/3) = 4/7.
    assert partition_score(routes, (0, 0, 1, 1)) == pytest.approx(4 / 7)
    assert partition_score(routes, (5, 5, 2, 0)) == 1.0


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), max_size=12))
def test_the_adjusted_rand_index_is_scikit_learns(pairs: list[tuple[int, int]]) -> None:
    groups, clusters = [one for one, _ in pairs], [two for _, two in pairs]
    assert adjusted_rand_index(groups, clusters) == adjusted_rand_score(groups, clusters)


def play(router: str, seed: int, blocks: int | None = None, **options: Any) -> tuple[Evaluation, MultiTaskData]:
    data = load("planted", seed=seed)
    game = make_game(data=data, seed=seed, **({} if blocks is None else {"blocks": blocks}))
    player = make_router(router, game.spec, seed=seed, **options)
    player.play(game, data.usual["epochs"] * len(data.train))
    return game.evaluate(player, "test"), data


def test_the_oracle_beats_sharing_everything_and_nothing() -> None:
    oracle, data = play("oracle", 0)
    assert data.groups is not None
    assert partition_score(oracle.routes, data.groups) == 1.0
    shared, separate = play("all-shared", 0)[0], play("fixed", 0, blocks=data.tasks)[0]
    assert partition(shared.routes) == [0] * data.tasks
    assert len(set(partition(separate.routes))) == data.tasks
    assert regret(shared, oracle) > 0.3
    assert regret(separate, oracle) > 0.1


def test_wpl_recovers_the_planted_partition() -> None:
    oracle, _ = play("oracle", 0)
    found, data = play("wpl", 0, rule="full-vector")
    assert data.groups is not None
    assert partition_score(found.routes, data.groups) >= 0.9
    assert abs(regret(found, oracle)) < 0.05


def test_the_oracle_needs_groups_and_blocks_for_them() -> None:
    with pytest.raises(ValueError, match="use the data set 'planted'"):
        make_router("oracle", make_game(data="digits").spec)
    with pytest.raises(ValueError, match="2 blocks for 3 groups; raise blocks"):
        make_router("oracle", make_game(data="planted", blocks=2).spec)


def test_the_oracle_passes_where_no_layer_is_left() -> None:
    deep = {"data": "planted", "layers": 2, "recursive": True, "pass_action": True, "depth": 4}
    game = make_game(**deep)
    router = make_router("oracle", game.spec)
    router.play(game, 100)
    routes = game.evaluate(router).routes.argmax(2).tolist()
    assert game.data.groups is not None
    assert routes == [[group, 6, 6, 3 + group] for group in game.data.groups]
    with pytest.raises(ValueError, match="2 blocks for 3 groups; raise blocks"):
        make_router("oracle", make_game(**deep, blocks=2).spec)
