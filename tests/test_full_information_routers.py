"""Routers that learn from what other actions would have led to."""

from __future__ import annotations

from functools import partial
from itertools import product
from typing import Any

import pytest
import torch
from torch import Tensor
from worlds import little_data

from routing_env import make_game
from routing_env.agents import make_router
from routing_env.agents.hedge import Hedge, hedge_policy, hedge_update
from routing_env.agents.per_layer import PerLayer
from routing_env.agents.reinforce import Reinforce, counterfactual_advantage
from routing_env.agents.wpl import WPL, move_all
from routing_env.maintenance.matrix_games import GAMES, matrix_spec, matrix_state, one_round
from routing_env.testing import check_router
from routing_env.types import Counterfactuals, Decision, GameSpec, Outcome, State, Trace

ROUTERS: dict[str, tuple[str, dict[str, Any]]] = {
    "hedge": ("hedge", {}),
    "hedge pooled": ("hedge", {"pooled": (1.0, 0.0, 50)}),
    "wpl": ("wpl", {"rule": "full-vector", "information": "full"}),
    "reinforce": ("reinforce", {"baseline": "counterfactual"}),
    "reinforce-approx": ("reinforce-approx", {"baseline": "counterfactual", "train_blocks": True}),
    "per-layer": ("per-layer", {"routers": ["hedge", "wpl", "reinforce"]}),
    "dispatched": ("dispatched", {"router": "hedge", "agents": 2}),
}


@pytest.mark.parametrize("name", ROUTERS)
def test_they_keep_what_every_router_promises(name: str) -> None:
    router, options = ROUTERS[name]
    check_router(partial(make_router, router, **options))


@pytest.mark.parametrize("name", [name for name in ROUTERS if name != "reinforce-approx"])
def test_they_ask_the_game_while_they_play(name: str) -> None:
    game = make_game(data="planted", data_options=("samples=60",))
    router, options = ROUTERS[name]
    own: dict[str, Any] = {"routers": ["hedge"]} if name == "per-layer" else {}
    made = make_router(router, game.spec, **(options | own))
    assert made.needs_counterfactuals
    asked: list[bool] = []
    game.observers.append(lambda trace: asked.append(trace.counterfactuals is not None))
    made.play(game, game.dealer.pass_size)
    assert asked
    assert all(asked)
    assert not game.counterfactuals


def test_hedge_by_hand() -> None:
    policy = hedge_policy(torch.tensor([[1.0, 0.0, 9.0]]), torch.tensor([[True, True, False]]), 2.0)
    likely = torch.tensor(2.0).exp()
    torch.testing.assert_close(policy, torch.stack([likely, torch.tensor(1.0), torch.tensor(0.0)])[None] / (1 + likely))
    evidence = hedge_update(
        torch.tensor([2.0, 4.0, 6.0]),
        torch.tensor([1.0, -1.0, torch.nan]),
        torch.tensor([0.6, 0.2, 0.2]),
        0.5,
    )
    # Of the known ones the first is taken three times out of four: they earn 1/2 together.
    torch.testing.assert_close(evidence, torch.tensor([1.0 + 0.5, 2.0 - 1.5, 3.0]))


def test_hedge_without_counterfactuals_divides_by_the_probability() -> None:
    spec = matrix_spec(1, 2)
    router = Hedge(spec, rate=1.0, discount=1.0, exploration=0.0)
    router.learn(make_trace(spec, torch.tensor([[1]]), torch.tensor([2.0]), chance=torch.tensor([[0.75, 0.25]])))
    # 2 / 0.25 = 8 for the second action, 0 for the first, by a policy of 1/2 each.
    torch.testing.assert_close(router.evidence[0, 0], torch.tensor([-4.0, 4.0]))


def make_trace(
    spec: GameSpec,
    actions: Tensor,
    final: Tensor,
    *,
    others: Tensor | None = None,
    chance: Tensor | None = None,
    task: Tensor | None = None,
) -> Trace:
    """Routes that earn r_final alone; ``others`` is what other actions earn, float32 [B, D, A]."""
    lanes, depths = actions.shape
    task = torch.zeros(lanes, dtype=torch.int64) if task is None else task
    states = tuple(
        State(torch.zeros(lanes, spec.features), task, depth, spec.legal[depth].expand(lanes, -1))
        for depth in range(depths)
    )
    decisions = tuple(Decision(action, chance) for action in actions.unbind(1))
    nothing = torch.zeros(lanes)
    outcome = Outcome(task, nothing[:, None], task, task, nothing, task.bool(), task.bool())
    found = None if others is None else Counterfactuals(-others, others, torch.zeros(*others.shape, depths))
    return Trace(states, decisions, torch.zeros(lanes, depths), final, outcome, found)


def test_evidence_is_pooled_over_tasks_as_asked() -> None:
    spec = matrix_spec(1, 2)  # two players are two tasks
    others = torch.tensor([[[1.0, 0.0]], [[0.0, 4.0]]])
    trace = make_trace(spec, torch.zeros(2, 1, dtype=torch.int64), torch.zeros(2), others=others, task=torch.arange(2))
    own, alike, half = (Hedge(spec, rate=1.0, exploration=0.0, pooled=share) for share in (0.0, 1.0, 0.5))
    for router in (own, alike, half):
        router.learn(trace)
    evidence = torch.tensor([[0.5, -0.5], [-2.0, 2.0]])
    torch.testing.assert_close(own.pooled_evidence()[:, 0], evidence)
    torch.testing.assert_close(alike.pooled_evidence()[:, 0], evidence.sum(0).expand(2, -1))
    torch.testing.assert_close(half.pooled_evidence()[:, 0], (evidence + evidence.sum(0)) / 2)
    parting = Hedge(spec, rate=1.0, exploration=0.0, pooled=(1.0, 0.0, 2))
    parting.learn(trace)
    torch.testing.assert_close(parting.pooled_evidence()[:, 0], evidence)


def test_a_learner_that_forgets_follows_a_change() -> None:
    spec = matrix_spec(1, 2)
    first, second = torch.tensor([[[1.0, 0.0]]]), torch.tensor([[[0.0, 1.0]]])
    found: list[float] = []
    for discount in (0.9, 1.0):
        router = Hedge(spec, rate=0.5, discount=discount, exploration=0.0)
        for others in [first] * 100 + [second] * 20:
            router.learn(make_trace(spec, torch.zeros(1, 1, dtype=torch.int64), torch.zeros(1), others=others))
        found.append(float(hedge_policy(router.evidence[0, 0], torch.ones(2, dtype=torch.bool), 0.5)[1]))
    assert found[0] > 0.9 > 0.1 > found[1]


def play_with_full_information(name: str, table: str, rounds: int, **options: Any) -> tuple[Tensor, Tensor]:
    """Both players' policies at the end, and their mean over the second half, float32 [2, A]."""
    game = GAMES[table]
    spec = matrix_spec(1, game.actions)
    router = make_router(name, spec, **options)
    seen = matrix_state(1, game.actions)
    if hasattr(router, "policy"):
        tilted = torch.softmax(torch.arange(float(game.actions)), 0).expand(2, 1, -1)
        router.load_state_dict({**router.state_dict(), "tables": {**router.state_dict()["tables"], "policy": tilted}})
    total, counted = torch.zeros(2, game.actions), 0
    policy = torch.zeros(2, game.actions)
    for number in range(rounds):
        decision = router.act(seen)
        assert decision.probability is not None
        policy = decision.probability
        row, column = decision.action.tolist()
        earned = torch.stack([game.row[row, column], game.column[column, row]])
        others = torch.stack([game.row[:, column], game.column[:, row]])[:, None]
        trace = one_round(seen, decision, earned)
        found = Counterfactuals(-others, others, torch.zeros(2, 1, game.actions, 1))
        router.learn(
            Trace(trace.states, trace.decisions, trace.action_rewards, trace.final_reward, trace.outcome, found)
        )
        if number >= rounds // 2:
            total, counted = total + policy, counted + 1
    return policy, total / counted


@pytest.mark.parametrize("table", ["matching pennies", "rock-paper-scissors"])
def test_full_information_wpl_approaches_mixed_equilibria(table: str) -> None:
    options = {"rule": "full-vector", "information": "full", "step": 0.01, "value_step": 0.05}
    last, _ = play_with_full_information("wpl", table, 2500, **options)
    torch.testing.assert_close(last, torch.full_like(last, 1 / last.shape[1]), atol=0.15, rtol=0)


@pytest.mark.parametrize("table", ["matching pennies", "biased pennies", "rock-paper-scissors"])
def test_hedge_has_no_regret(table: str) -> None:
    """In zero-sum games the average policies approach an equilibrium (Freund & Schapire, 1999)."""
    _, average = play_with_full_information("hedge", table, 3000, rate=0.05, discount=1.0, exploration=0.0)
    assert GAMES[table].nash_conv(average).item() < 0.15


def test_wpl_by_hand() -> None:
    moved = move_all(torch.tensor([1.0, 2.0, 3.0]), torch.tensor([2.0, torch.nan, 1.0]), 0.5)
    torch.testing.assert_close(moved, torch.tensor([1.5, 2.0, 2.0]))
    spec = matrix_spec(1, 2)
    router = WPL(spec, rule="full-vector", information="full", step=0.1, value_step=1.0)
    router.learn(
        make_trace(spec, torch.zeros(1, 1, dtype=torch.int64), torch.ones(1), others=torch.tensor([[[1.0, 0.0]]]))
    )
    # Delta is 1/2 and -1/2, and pi is 1/2: both move by 0.1 * 1/2 * 1/2.
    torch.testing.assert_close(router.policy[0, 0], torch.tensor([0.525, 0.475]))


def test_the_counterfactual_advantage_by_hand() -> None:
    returns = torch.tensor([[[1.0, -1.0, 3.0], [2.0, torch.nan, 0.0]]])
    policy = torch.tensor([[[0.5, 0.25, 0.25], [0.2, 0.2, 0.6]]])
    advantage = counterfactual_advantage(returns, policy, torch.tensor([[2, 0]]))
    torch.testing.assert_close(advantage, torch.tensor([[3 - 1.0, 2 - 0.5]]))


def test_the_counterfactual_gradient_is_unbiased_and_varies_less() -> None:
    """All routes of a game of two decisions with any payoffs, for a policy that does not see v."""
    depths, actions = 2, 3
    legal = torch.ones(depths, actions, dtype=torch.bool)
    spec = GameSpec(1, depths, actions, 1, legal, ((0, 1, 2),) * depths, torch.device("cpu"))
    payoff = torch.randn(actions, actions, generator=torch.Generator().manual_seed(0)) + 2
    logits = torch.randn(1, depths, actions, generator=torch.Generator().manual_seed(1))

    def gradients(baseline: Any) -> tuple[Tensor, Tensor]:
        """The mean and the variance of the gradient over all routes."""
        router = Reinforce(spec, baseline=baseline)
        (parameter,) = (p for p in router.policy.parameters() if p.numel() == logits.numel())
        parameter.data = logits.clone().view_as(parameter)
        mean, square = torch.zeros_like(parameter), torch.zeros_like(parameter)
        for route in product(range(actions), repeat=depths):
            first, second = route
            taken = torch.tensor([route])
            others = torch.stack([payoff[:, second], payoff[first]])[None]
            trace = make_trace(spec, taken, payoff[first, second][None], others=others)
            chance = router.log_policy(trace).exp().detach().gather(2, taken[..., None]).prod()
            (gradient,) = torch.autograd.grad(router.loss(trace).mean(), [parameter])
            mean, square = mean + chance * gradient, square + chance * gradient.square()
        return mean, (square - mean.square()).sum()

    plain, advantage = gradients(False), gradients("counterfactual")
    torch.testing.assert_close(plain[0], advantage[0])
    assert plain[0].abs().max() > 0.1
    assert advantage[1] < plain[1] / 3


def test_a_depth_of_per_layer_sees_its_own_counterfactuals() -> None:
    """With the same router at every depth, it learns what the router of all depths learns."""
    data = little_data(4, (2, 3, 2), per_task=16)
    games = [make_game(data=data, network="mlp", hidden=4, layers=2, rho=0.3, batch_size=8) for _ in range(2)]
    whole = Hedge(games[0].spec, gamma=0.5, exploration=0.1)
    options = {"exploration": 0.1}
    split = PerLayer(games[1].spec, routers=["hedge"] * 2, options=[options] * 2, gamma=0.5)
    traces: list[Trace] = []
    games[0].observers.append(traces.append)
    whole.play(games[0], 40)
    for trace in traces:
        split.learn(trace)
    for depth, part in enumerate(split.parts):
        assert isinstance(part, Hedge)
        torch.testing.assert_close(part.evidence[:, 0], whole.evidence[:, depth])


def test_what_cannot_be_is_refused() -> None:
    spec = matrix_spec(1, 2)
    with pytest.raises(ValueError, match="information is 'full' and rule 'algorithm-3'"):
        make_router("wpl", spec, information="full")
    with pytest.raises(ValueError, match="baseline is 'coma'"):
        make_router("reinforce", spec, baseline="coma")
    with pytest.raises(ValueError, match="discount is 0; it must be in"):
        make_router("hedge", spec, discount=0)
    game = make_game(data=little_data(4), network="mlp", hidden=4, layers=2, batch_size=8)
    with pytest.raises(ValueError, match="nobody knows what another agent would have done"):
        make_router("dispatched", game.spec, dispatcher="reinforce", dispatcher_options={"baseline": "counterfactual"})
    for name in ("wpl", "reinforce"):
        router = make_router(ROUTERS[name][0], game.spec, **ROUTERS[name][1])
        state: State | None = game.reset()
        while state is not None:
            state = game.step(router.act(state))
        with pytest.raises(ValueError, match="the trace has no counterfactuals"):
            router.learn(game.trace)
