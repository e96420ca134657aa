"""Gradients of differentiable routers against exact enumeration (k = 3, D = 2), and router gradients in the blocks."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import replace

import torch
from torch import Tensor
from torch.nn import functional as F

from routing_env.agents.gumbel import GumbelSoftmax, gumbel, straight_through
from routing_env.agents.reinforce import Reinforce
from routing_env.agents.relax import conditional_perturbed, relax_gradient
from routing_env.game.build import make_game
from routing_env.state_dicts import same_state
from routing_env.types import Decision, State, Trace

LOGITS = torch.tensor([[0.5, 0.0, -0.5], [-0.3, 0.6, 0.1]], dtype=torch.float64)
FACTORS = torch.tensor([[1.0, 2.0, -1.0], [0.5, 1.5, 1.0]], dtype=torch.float64)
"""Blocks that multiply: what action a does at depth i."""
LANES = 100_000


def loss(v: Tensor) -> Tensor:
    """Of a route's product."""
    return (v - 1.5).square()


def exact_gradient() -> Tensor:
    """Of the expected loss by the logits, summing over all nine routes, [2, 3]."""
    logits = LOGITS.clone().requires_grad_()
    policy = logits.softmax(-1)
    routes = loss(FACTORS[0][:, None] * FACTORS[1][None, :])
    (gradient,) = torch.autograd.grad((policy[0][:, None] * policy[1][None, :] * routes).sum(), logits)
    return gradient


def mean_and_error(gradient: Tensor) -> tuple[Tensor, Tensor]:
    """Over lanes, from [lanes, 2, 3]."""
    return gradient.mean(0), gradient.std(0) / len(gradient) ** 0.5


def by_logits(gradient: Tensor) -> Tensor:
    """From a gradient by log pi to one by the logits."""
    return gradient - LOGITS.softmax(-1) * gradient.sum(-1, keepdim=True)


def relax_samples(value: Tensor, generator: torch.Generator, lanes: int = LANES) -> Tensor:
    """RELAX's estimates of the gradient of the expected loss by the logits, [lanes, 2, 3]."""
    policy = LOGITS.log_softmax(-1).expand(lanes, -1, -1).clone().requires_grad_()
    action = torch.stack([torch.multinomial(p, lanes, True, generator=generator) for p in LOGITS.softmax(-1)], dim=1)
    return_ = -loss(FACTORS[0][action[:, 0]] * FACTORS[1][action[:, 1]])[:, None].expand(-1, 2)
    noise = torch.rand(2, lanes, 2, 3, dtype=torch.float64, generator=generator)
    return by_logits(-relax_gradient(policy, action, return_, value.expand(lanes, -1, -1), noise, 0.5))


def test_relax_is_unbiased_whatever_the_control_variate() -> None:
    exact = exact_gradient()
    generator = torch.Generator().manual_seed(0)
    for value in (torch.zeros_like(LOGITS), -FACTORS, 3 * FACTORS.flip(1)):
        mean, error = mean_and_error(relax_samples(value, generator).detach())
        assert ((mean - exact).abs() < 4.5 * error).all(), (mean, exact, error)


def test_relax_without_control_variate_is_reinforce_and_a_trained_one_has_less_variance() -> None:
    lanes = 5000
    value = torch.zeros_like(LOGITS).requires_grad_()
    optimizer = torch.optim.Adam([value], lr=0.1)
    square: list[float] = []
    for _ in range(40):
        moment = relax_samples(value, torch.Generator().manual_seed(1), lanes).square().sum((1, 2)).mean()
        square.append(moment.item())
        optimizer.zero_grad()
        moment.backward()
        optimizer.step()
    generator = torch.Generator().manual_seed(1)
    policy = LOGITS.softmax(-1)
    action = torch.stack([torch.multinomial(p, lanes, True, generator=generator) for p in policy], dim=1)
    cost = loss(FACTORS[0][action[:, 0]] * FACTORS[1][action[:, 1]])
    score = (F.one_hot(action, 3) - policy) * cost[:, None, None]
    torch.testing.assert_close(square[0], score.square().sum((1, 2)).mean().item())
    assert square[-1] < 0.75 * square[0]


def test_perturbed_logits_given_the_action_are_those_whose_argmax_it_is() -> None:
    """Drawing the action and then z has the same distribution as drawing z and looking at its argmax."""
    generator = torch.Generator().manual_seed(0)
    log_policy = LOGITS[0].log_softmax(-1).expand(LANES, -1)
    z = log_policy + gumbel(torch.rand(LANES, 3, dtype=torch.float64, generator=generator))
    action = z.argmax(-1)
    again = conditional_perturbed(log_policy, action, torch.rand(LANES, 3, dtype=torch.float64, generator=generator))
    assert torch.equal(again.argmax(-1), action)
    for a in range(3):
        torch.testing.assert_close(z[action == a].mean(0), again[action == a].mean(0), atol=0.03, rtol=0)
        torch.testing.assert_close(z[action == a].std(0), again[action == a].std(0), atol=0.03, rtol=0)


def test_straight_through_is_biased_but_points_the_right_way() -> None:
    """Only the chosen block is applied, so only its share of the gradient exists: a bias that must be documented."""
    logits = LOGITS.expand(LANES, -1, -1).clone().requires_grad_()
    noise = gumbel(torch.rand(LANES, 2, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0)))
    v = torch.ones(LANES, dtype=torch.float64)
    for depth in range(2):
        log_policy = logits[:, depth].log_softmax(-1)
        action = (log_policy + noise[:, depth]).argmax(-1)
        gate = straight_through(log_policy, noise[:, depth], action, 1.0)
        v = v * FACTORS[depth][action] * gate
    (gradient,) = torch.autograd.grad(loss(v).sum(), logits)
    mean, error = mean_and_error(gradient)
    exact = exact_gradient()
    assert F.cosine_similarity(mean.flatten(), exact.flatten(), dim=0) > 0.5
    assert ((mean - exact).abs() > 10 * error).any()


def test_gumbel_softmax_learns_as_if_its_policy_were_in_the_graph_of_the_blocks() -> None:
    """A step of SGD along the gradient that the mean loss of the blocks has for the policy through the gates."""
    game = make_game(network="mlp", batch_size=16)
    router = GumbelSoftmax(replace(game.spec, agents=1), network="mlps", optimizer="sgd", learning_rate=1.0)
    for parameter in router.policy.parameters():
        torch.nn.init.normal_(parameter, std=0.1, generator=torch.Generator().manual_seed(0))
    policy, network = deepcopy(router.policy), deepcopy(game.network)
    batch = game.dealer.next_batch()
    state: State | None = game.reset(batch)
    while state is not None:
        state = game.step(router.act(state))
    router.learn(game.trace)

    network.train()
    route = network.start(batch.x, batch.task)
    for seen, decision in zip(game.trace.states, game.trace.decisions, strict=True):
        log_policy = policy(seen).log_softmax(-1)
        assert torch.equal((log_policy + decision.info).argmax(-1), decision.action)
        gate = straight_through(log_policy, decision.info, decision.action, 1.0)
        route.apply(Decision(decision.action, gate=gate))
    gradients = torch.autograd.grad(F.cross_entropy(route.output, batch.target), list(policy.parameters()))
    assert all(gradient.any() for gradient in gradients)
    for after, before, gradient in zip(router.policy.parameters(), policy.parameters(), gradients, strict=True):
        torch.testing.assert_close(after, before - gradient)


def test_gumbel_softmax_learns_nothing_from_a_deal_that_trained_no_blocks() -> None:
    game = make_game(network="mlp", batch_size=16)
    router = GumbelSoftmax(game.spec)
    router.play(game, 32)
    before = router.state_dict()
    state: State | None = game.reset(train=False)
    while state is not None:
        state = game.step(router.act(state))
    assert router.learn(game.trace) == {"loss": game.trace.outcome.loss.mean().item()}
    after = router.state_dict()
    for part in ("networks", "agent_optimizer"):
        assert same_state(after[part], before[part])


def test_router_gradients_reach_the_blocks_on_request_only() -> None:
    """Section 3.1.2: one deal's step is that of the blocks' loss plus the router's, both backpropagated through v."""
    rate = 0.1
    games = [make_game(network="mlp", batch_size=16, learning_rate=rate) for _ in range(3)]
    plain, summed, by_hand = games
    routers = [Reinforce(plain.spec, network="mlps", train_blocks=on) for on in (False, True, True)]
    for router in routers:
        # Output layers start at zero, and nothing would pass through them to v.
        for parameter in router.policy.parameters():
            torch.nn.init.normal_(parameter, std=0.1, generator=torch.Generator().manual_seed(0))

    before = deepcopy(by_hand.network.state_dict())
    for game, router in zip(games[:2], routers[:2], strict=True):
        router.play(game, 1)

    batch = by_hand.dealer.next_batch()
    by_hand.network.train()
    route = by_hand.network.start(batch.x, batch.task)
    attached: list[State] = []
    for action in summed.trace.actions.T:
        attached.append(route.observe(attached=True))
        route.apply(Decision(action))
    decisions = tuple(Decision(action) for action in summed.trace.actions.T)
    trace = Trace(
        tuple(attached), decisions, summed.trace.action_rewards, summed.trace.final_reward, summed.trace.outcome
    )
    total = F.cross_entropy(route.output, batch.target) + routers[2].loss(trace).mean()
    names, parameters = zip(*by_hand.network.named_parameters(), strict=True)
    gradients = torch.autograd.grad(total, parameters, allow_unused=True, materialize_grads=True)

    assert torch.equal(plain.trace.actions, summed.trace.actions)
    changed = False
    for name, gradient in zip(names, gradients, strict=True):
        torch.testing.assert_close(summed.network.state_dict()[name], before[name] - rate * gradient)
        changed |= not torch.equal(plain.network.state_dict()[name], summed.network.state_dict()[name])
    assert changed
    assert summed.router_loss is None
    assert not any(state.v.requires_grad for state in summed.trace.states)
