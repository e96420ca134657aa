"""The three rules by hand, the order of the updates, the projections, and rock-paper-scissors."""

from __future__ import annotations

from typing import Any, cast

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import brentq
from torch import Tensor
from worlds import Blueprint, noise

from routing_env.agents.policies import clip_and_normalise, project_onto_simplex
from routing_env.agents.samples import in_turn
from routing_env.agents.wpl import WPL, Rule, full_vector_update, sampled_update, wpl_step
from routing_env.types import Decision, Outcome, State, Trace

ALL = torch.ones(3, dtype=torch.bool)


def row(*values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


def sampled(policy: Tensor, average: Tensor, action: int, return_: float, legal: Tensor, rule: Rule) -> list[Tensor]:
    updated = sampled_update(policy, average, torch.tensor(action), row(return_)[0], legal, 0.5, rule)
    return list(updated)


def test_algorithm_3_by_hand() -> None:
    """Step 1/2 throughout. Delta = R - Rhat, with the average that has already seen R."""
    policy, average = row(0.5, 0.25, 0.25), row(0, 0, 0)
    # Rhat = 0.5, Delta = 0.5 >= 0, times pi = 0.5: 0.25. pi(0) = 0.5 + 0.5 * 0.25 = 0.625, over 1.125.
    policy, average = sampled(policy, average, 0, 1.0, ALL, "algorithm-3")
    torch.testing.assert_close(policy, row(0.625, 0.25, 0.25) / 1.125)
    torch.testing.assert_close(average, row(0.5, 0, 0))
    # Action 0 again, R = -1: Rhat = -0.25, Delta = -0.75 < 0, times 1 - pi = 4/9: -1/3. pi(0) = 5/9 - 1/6 = 7/18.
    policy, average = sampled(policy, average, 0, -1.0, ALL, "algorithm-3")
    torch.testing.assert_close(policy, row(7, 4, 4) / 15)
    torch.testing.assert_close(average, row(-0.25, 0, 0))


def test_section_7_4_by_hand() -> None:
    policy, average = row(0.5, 0.25, 0.25), row(0, 0, 0)
    # Delta = 0.5, times 1 - pi(1) = 0.75: 0.375. pi(1) = 0.25 + 0.1875.
    policy, average = sampled(policy, average, 1, 1.0, ALL, "section-7.4")
    torch.testing.assert_close(policy, row(0.5, 0.4375, 0.25) / 1.1875)
    # R = -1 for action 0: Rhat = -0.5, Delta = -0.5, times pi(0) = 8/19: -4/19. pi(0) = 8/19 - 2/19.
    policy, average = sampled(policy, average, 0, -1.0, ALL, "section-7.4")
    torch.testing.assert_close(policy, row(6, 7, 4) / 17)
    torch.testing.assert_close(average, row(-0.5, 0.5, 0))


def test_full_vector_by_hand() -> None:
    policy, value = row(0.5, 0.25, 0.25), row(0, 0, 0)
    arguments = (ALL, 0.5, 0.5, 0.0)
    # Q = (1, 0, 0), mean 1/2: Delta = (1/2, -1/2, -1/2), weighed 1/2 * 1/2, -1/2 * 1/4, -1/2 * 1/4.
    # pi + Delta / 2 = (0.625, 0.1875, 0.1875): on the simplex already.
    policy, value = full_vector_update(policy, value, torch.tensor(0), row(2.0)[0], *arguments)
    torch.testing.assert_close(policy, row(0.625, 0.1875, 0.1875))
    torch.testing.assert_close(value, row(1, 0, 0))
    # Q = (1, -4, 0), mean -1/8: Delta = (9/8, -31/8, 1/8), weighed 3/8, 3/16, 13/16. pi + Delta / 2 =
    # (0.8359375, -0.17578125, 0.23828125): the second clips, the others give up 0.037109375 each to sum to 1.
    policy, value = full_vector_update(policy, value, torch.tensor(1), row(-8.0)[0], *arguments)
    torch.testing.assert_close(policy, row(0.798828125, 0, 0.201171875))
    torch.testing.assert_close(value, row(1, -4, 0))


@pytest.mark.parametrize("rule", ["algorithm-3", "section-7.4"])
def test_a_row_that_clips_to_nothing_becomes_uniform(rule: Rule) -> None:
    """The one certain action loses more than it has by section 7.4; by Algorithm 3 it loses nothing."""
    policy, _ = sampled(row(1, 0, 0), row(0, 0, 0), 0, -10.0, ALL, rule)
    expected = row(1, 0, 0) if rule == "algorithm-3" else row(1, 1, 1) / 3
    torch.testing.assert_close(policy, expected)
    legal = torch.tensor([True, False, True])
    torch.testing.assert_close(clip_and_normalise(row(-1, 5, 0), legal), row(0.5, 0, 0.5))


@pytest.mark.parametrize("rule", ["algorithm-3", "section-7.4", "full-vector"])
def test_illegal_actions_never_gain_probability(rule: Rule) -> None:
    legal = torch.tensor([True, False, True])
    policy, value = row(0.5, 0, 0.5), row(0, 9, 0)
    for action, return_ in ((0, -1.0), (2, 1.0), (0, 5.0)):
        if rule == "full-vector":
            updated = full_vector_update(
                policy, value, torch.tensor(action), row(return_)[0], legal, 0.5, 0.5, minimum=0.1
            )
        else:
            updated = sampled(policy, value, action, return_, legal, rule)
        policy, value = updated
        assert policy[1] == 0
        assert float(policy.sum()) == pytest.approx(1)


@pytest.mark.parametrize("rule", ["algorithm-3", "section-7.4", "full-vector"])
@given(weights=st.lists(st.floats(0.05, 1), min_size=3, max_size=3), gain=st.floats(0.1, 1), action=st.integers(0, 2))
def test_a_better_return_than_usual_raises_the_probability(
    rule: Rule, weights: list[float], gain: float, action: int
) -> None:
    policy = row(*weights) / sum(weights)
    for sign in (1.0, -1.0):
        taken, return_, known = torch.tensor(action), row(sign * gain)[0], row(0, 0, 0)
        if rule == "full-vector":
            after, _ = full_vector_update(policy, known, taken, return_, ALL, 0.1, 0.1, 0.0)
        else:
            after, _ = sampled_update(policy, known, taken, return_, ALL, 0.1, rule)
        assert sign * float(after[action] - policy[action]) > 0


@given(agents=st.lists(st.integers(0, 4), min_size=1, max_size=20))
def test_in_turn_keeps_every_agents_order_and_mixes_none(agents: list[int]) -> None:
    groups = [group.tolist() for group in in_turn(torch.tensor(agents))]
    assert sorted(lane for group in groups for lane in group) == list(range(len(agents)))
    for group in groups:
        assert len({agents[lane] for lane in group}) == len(group)
    for agent in set(agents):
        assert [lane for group in groups for lane in group if agents[lane] == agent] == [
            lane for lane, other in enumerate(agents) if other == agent
        ]


SPEC = Blueprint((2, 2, 2), (3, 3), depth=2).network().spec(tasks=3, device=torch.device("cpu"))


def make_trace(task: list[int], actions: Tensor, rewards: Tensor, final_reward: Tensor) -> Trace:
    lanes, depth = actions.shape
    tasks, nothing = torch.tensor(task), torch.zeros(lanes)
    legal = SPEC.legal[:depth]
    states = tuple(State(torch.zeros(lanes, 2), tasks, i, legal[i].expand(lanes, -1)) for i in range(depth))
    decisions = tuple(Decision(actions[:, i]) for i in range(depth))
    outcome = Outcome(tasks, nothing[:, None], tasks, tasks, nothing, nothing > 0, nothing > 0)
    return Trace(states, decisions, rewards, final_reward, outcome)


@pytest.mark.parametrize("rule", ["algorithm-3", "section-7.4", "full-vector"])
@given(data=st.data())
def test_a_batch_is_learned_sample_by_sample(rule: Rule, data: st.DataObject) -> None:
    """One batch of any size equals a naive loop over its samples, tasks repeated or not."""
    task = data.draw(st.lists(st.integers(0, 2), min_size=1, max_size=12))
    seed, gamma, step = data.draw(st.integers(0, 999)), 0.5, 0.3
    generator = torch.Generator().manual_seed(seed)
    actions = torch.randint(3, (len(task), 2), generator=generator)
    rewards, final = torch.rand(len(task), 2, generator=generator), torch.randn(len(task), generator=generator)
    own: dict[str, Any] = {"value_step": 0.2, "minimum": 0.01} if rule == "full-vector" else {}
    router = WPL(SPEC, rule=rule, step=step, gamma=gamma, **own)
    router.learn(make_trace(task, actions, rewards, final))

    policy, value = torch.full((3, 2, 3), 1 / 3), torch.zeros(3, 2, 3)
    for lane, agent in enumerate(task):
        for depth in range(2):
            later = sum(gamma ** (j - depth) * rewards[lane, j] for j in range(depth, 2))
            return_, action = final[lane] + cast(Tensor, later), actions[lane, depth]
            rows = policy[agent, depth], value[agent, depth], action, return_, ALL, step
            updated = full_vector_update(*rows, 0.2, 0.01) if rule == "full-vector" else sampled_update(*rows, rule)
            policy[agent, depth], value[agent, depth] = updated
    torch.testing.assert_close(router.policy, policy, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(router.value, value, rtol=1e-5, atol=1e-6)


@given(data=st.data())
def test_the_projection_is_the_nearest_distribution(data: st.DataObject) -> None:
    """Against a root-finder: subtract one threshold from all, clip at the minimum, sum to 1."""
    size = data.draw(st.integers(1, 6))
    legal = data.draw(st.lists(st.booleans(), min_size=size, max_size=size).filter(any))
    minimum = data.draw(st.sampled_from([0.0, 0.01, 0.1, 1.0]))
    x = noise(size, seed=data.draw(st.integers(0, 999))) * data.draw(st.sampled_from([0.1, 1.0, 10.0]))
    ours = project_onto_simplex(x, torch.tensor(legal), minimum).numpy()

    free = x.numpy()[np.array(legal)]
    least = min(minimum, 1 / len(free))

    def excess(threshold: float) -> float:
        return float(np.maximum(free - threshold, least).sum() - 1)

    expected = np.zeros(size)
    if least * len(free) >= 1 - 1e-12:
        expected[np.array(legal)] = 1 / len(free)
    else:
        threshold = cast(float, brentq(excess, free.min() - 1.1, free.max(), xtol=1e-14))
        expected[np.array(legal)] = np.maximum(free - threshold, least)
    np.testing.assert_allclose(ours, expected, atol=1e-6)
    assert ours.sum() == pytest.approx(1, abs=1e-6)
    assert (ours[~np.array(legal)] == 0).all()


def test_rock_paper_scissors_approaches_the_mixed_equilibrium() -> None:
    """Self-play by the full-vector rule, eight pairs at once, every agent seeing its own action's payoff only."""
    payoff = torch.tensor([[0.0, -1, 1], [1, 0, -1], [-1, 1, 0]])
    policies = torch.tensor([[0.8, 0.1, 0.1], [0.2, 0.7, 0.1]]).repeat(8, 1, 1)
    values, legal = torch.zeros_like(policies), torch.ones_like(policies, dtype=torch.bool)
    generator = torch.Generator().manual_seed(0)
    distances: list[float] = []
    for _ in range(4000):
        action = torch.multinomial(policies.view(-1, 3), 1, generator=generator).view(8, 2)
        won = payoff[action[:, 0], action[:, 1]]
        returns = torch.stack([won, -won], dim=1)
        policies, values = full_vector_update(policies, values, action, returns, legal, 0.002, 0.2, 0.001)
        distances.append(float((policies - 1 / 3).abs().mean()))
    assert distances[0] > 0.25
    assert distances[-1] < 0.06
    torch.testing.assert_close(policies.mean((0, 1)), torch.full((3,), 1 / 3), rtol=0, atol=0.04)


def test_rock_paper_scissors_with_known_payoffs_spirals_in() -> None:
    payoff = row(0, -1, 1, 1, 0, -1, -1, 1, 0).view(3, 3)
    policies, legal = torch.stack([row(0.8, 0.1, 0.1), row(0.2, 0.7, 0.1)]), ALL.expand(2, 3)
    for _ in range(4000):
        policies = wpl_step(policies, torch.stack([payoff @ policies[1], payoff @ policies[0]]), legal, 0.01, 0.001)
    torch.testing.assert_close(policies, torch.full((2, 3), 1 / 3, dtype=torch.float64), rtol=0, atol=0.05)


def test_an_unknown_rule() -> None:
    with pytest.raises(ValueError, match="rule is 'algorithm-4'"):
        WPL(SPEC, rule="algorithm-4")  # pyright: ignore[reportArgumentType]
