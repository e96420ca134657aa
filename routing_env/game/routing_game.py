"""The routing game: reset deals samples, a step applies one block per lane, the last step scores, rewards and trains.

The game knows lanes only. Who decides for which lane, and through which interface, is the matter of routers and shells.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import Tensor

from routing_env.data import MultiTaskData, SplitName
from routing_env.data.dealers import Dealer
from routing_env.evaluations import Evaluation
from routing_env.game.captured import CapturedDeals, CudaGraph, MakeGraph, captured_deals
from routing_env.game.checks import check_decision, check_learned, check_routes, check_shapes, checked_batch, noted
from routing_env.game.collecting import CollectedDeals
from routing_env.game.counterfactuals import one_step_outcomes, outcomes_along, replay_routes
from routing_env.game.deal import Deal
from routing_env.game.evaluation import Score, evaluate
from routing_env.game.logged_means import LoggedMeans
from routing_env.game.measured_rewards import MeasuredReward, check_together
from routing_env.game.own_parts import own_values
from routing_env.game.rewards import (
    CollaborationReward,
    FinalReward,
    action_reward_of,
    correct_or_not,
    negative_loss,
    refuse_shared_rewards,
    reward_of,
)
from routing_env.game.routed_forward import routed_forward
from routing_env.game.routed_model import Route, RoutedModel
from routing_env.game.settings import Settings
from routing_env.game.training import BlockTrainer, Loss, network_mode
from routing_env.game.unattended import Unattended
from routing_env.state_dicts import ANYTHING, Stateful, check_state, restore
from routing_env.torch_settings import usual_torch
from routing_env.types import Batch, Counterfactuals, Decision, GameSpec, Outcome, Policy, Router, State, Trace


class RoutingGame:
    """B lanes in lockstep through one network whose blocks learn from the routes taken (Algorithm 2).

    Args:
        data: the tasks.
        network: any routed model; its parameters are changed by ``trainer`` alone.
        trainer: of the blocks and the stem.
        dealer: of training samples.
        collaboration: the immediate rewards.
        final_reward: from the outcome of a deal to r_final; by default +1/-1, for regression the negative loss.
        loss: per lane; by default cross-entropy, for regression the squared error.
        block_batch: None trains on each deal as it ends. A number collects this many routed samples first, then routes
            them again along the same routes, as one batch: for deals too small for batch norm and SGD. Until then deals
            are routed with the network in evaluation mode.

    Attributes:
        spec: what a router must know.
        settings: the settings that the game was built from; None where it was put together by hand.
        final_reward: from the outcome of routes to r_final, float32 [B].
        observers: called with the trace of every training deal.
        router_loss: from a trace to float32 [B], a router's own loss. The blocks minimise it in addition to theirs: its
            gradient reaches them through v, which is not detached then (section 3.1.2, end). None, the default,
            detaches v.
        counterfactuals: whether the traces of training deals say what other actions would have led to.
        dealt: the samples of the present or last deal, and what the network has made of them before the first decision.
        unattended: where given, a deal does not wait for the device: an illegal action and a loss that is not finite
            are noted in it rather than raised, and the deal is not counted.
        make_graph: makes the graphs of captured deals; None, the default on all devices but CUDA, captures none.
    """

    def __init__(
        self,
        data: MultiTaskData,
        network: RoutedModel,
        trainer: BlockTrainer,
        dealer: Dealer,
        collaboration: CollaborationReward,
        *,
        final_reward: FinalReward | None = None,
        loss: Loss | None = None,
        block_batch: int | None = None,
    ) -> None:
        spec = network.spec(data.tasks, data.device, data.input_shape)
        check_shapes(network.input_shape, network.output_shape, data)
        self.data = data
        self.network = network
        self.trainer = trainer
        self.dealer = dealer
        self.collaboration = collaboration
        self.spec: GameSpec = replace(spec, groups=data.groups, programs=data.programs, kinds=data.kinds)
        self.settings: Settings | None = None
        self.observers: list[Callable[[Trace], None]] = []
        self.router_loss: Callable[[Trace], Tensor] | None = None
        self.counterfactuals = False
        self.final_reward = final_reward or (negative_loss if data.classes is None else correct_or_not)
        self._score = Score(data, loss)
        self._collected = CollectedDeals(block_batch)
        self.logged = LoggedMeans()  # the values of :meth:`log`
        self.make_graph: MakeGraph | None = CudaGraph if self.spec.device.type == "cuda" else None
        self._captured: CapturedDeals | None = None
        self.unattended: Unattended | None = None
        self._deal: Deal | None = None
        self._trace: Trace | None = None
        self.dealt: tuple[Batch, Tensor] | None = None

    @property
    def samples(self) -> int:
        """Training samples dealt so far."""
        return self.trainer.samples

    @property
    def epoch(self) -> int:
        """Passes over the training samples that are complete."""
        return self.samples // self.dealer.pass_size

    @property
    def trace(self) -> Trace:
        """The deal that has just ended.

        Raises:
            RuntimeError: no deal has ended yet.
        """
        if self._trace is None:
            raise RuntimeError("no deal has ended yet; call step until it returns None")
        return self._trace

    @property
    def collects(self) -> bool:
        """Whether deals are collected for the blocks' step (``block_batch``)."""
        return self._collected.samples is not None

    @property
    def action_reward(self) -> Tensor:
        """The immediate reward of the last decision, float32 [B]: the collaboration reward, without r_final.

        Raises:
            RuntimeError: no decision has been taken in this deal yet.
        """
        if self._deal is None:
            return self.trace.action_rewards[:, -1]
        if not self._deal.rewards:
            raise RuntimeError("nothing has been decided in this deal yet; call step first")
        return self._deal.rewards[-1]

    @usual_torch(keep_gradients=True)  # libraries play under settings in which blocks cannot be trained
    def reset(self, batch: Batch | None = None, *, train: bool = True) -> State:
        """Deal samples to the lanes; a deal under way is abandoned.

        Args:
            batch: your own samples; by default the dealer's next.
            train: whether the deal trains the blocks and counts in the rewards' history and the number of samples.

        Raises:
            ValueError: a batch, also of your own dealer, that does not fit the tasks or is not finite;
                or a ``router_loss``, ``counterfactuals`` or a final reward in a game that they do not go with.
        """
        if train:
            router_loss = self.router_loss is not None
            check_together(self.final_reward, self.collects, self.counterfactuals, router_loss)
        if batch is None or self.unattended is None:
            batch = checked_batch(batch, self.dealer, self.data, self.network)
        with network_mode(self.network, train=train and not self.collects):
            route = self.network.start(batch.x, batch.task)
        self._deal, self._trace, self.dealt = Deal(batch, route, train), None, (batch, route.x.detach())
        return route.observe(attached=train and self.router_loss is not None)

    @usual_torch(keep_gradients=True)  # libraries play under settings in which blocks cannot be trained
    def step(self, decision: Decision, *, forfeit: Tensor | None = None) -> State | None:
        """Apply one block per lane; after the last decision score, reward and train.

        Args:
            decision: legal actions.
            forfeit: bool [B], lanes that lose their route here, whatever their action: they apply no further blocks,
                train nothing and end with r_final = -1, or the lowest of the deal where that is lower still. The trace
                shows their first legal action from here on.

        Returns:
            The next state, or None when the routes have ended; then ``trace`` holds them.

        Raises:
            RuntimeError: no deal is under way.
            ValueError: a decision of the wrong shape or type, or an illegal action; nothing has changed. Or a final
                reward of your own that is not float [B] and finite; nothing has been trained.
        """
        deal = self._deal
        if deal is None:
            raise RuntimeError("the routes have ended; call reset to deal the next samples")
        playing = deal.playing
        if forfeit is not None and forfeit.any():
            playing = ~forfeit if playing is None else playing & ~forfeit
        state = deal.route.states[-1]
        if self.unattended is None:
            check_decision(decision, state, playing)
        else:
            decision = noted(decision, state, self.unattended.illegal)
        if decision.gate is not None and self.collects and decision.gate.requires_grad:
            raise ValueError("a gate's gradient needs every deal to be a step of the blocks; leave block_batch out")
        if playing is not None:
            decision = replace(decision, action=decision.action.where(playing, state.legal.int().argmax(1)))
        depth, action = deal.route.depth, decision.action
        with network_mode(self.network, train=deal.train and not self.collects):
            deal.route.apply(decision, playing=playing)
        reward = action_reward_of(self.collaboration, depth, action)
        if deal.train:
            if self.counterfactuals:
                every = torch.arange(self.spec.actions, device=action.device)
                deal.offers.append(action_reward_of(self.collaboration, depth, every))
            counted = action if playing is None else action[playing]
            probability = decision.probability
            if probability is not None and playing is not None:
                probability = probability[playing]
            self.collaboration.record(depth, counted, probability)
        deal.playing = playing
        deal.rewards.append(reward if playing is None else reward.where(playing, 0.0))
        if deal.route.depth < self.spec.depth:
            return deal.route.observe(attached=deal.train and self.router_loss is not None)
        self._deal = None
        self._trace = self._end(deal)
        if deal.train and self.unattended is None:
            self.attend(self._trace, self.dealt)
        return None

    def play_captured(self, router: Router, samples: int) -> int:
        """Play deals as CUDA graphs as long as that is possible, see :mod:`routing_env.game.captured`.

        Returns:
            Number of samples dealt; 0 where the next deal must be a plain one.
        """
        self._captured = captured_deals(self, router, self._captured)
        return 0 if self._captured is None else self._captured.play(samples)

    def attend(self, trace: Trace, dealt: tuple[Batch, Tensor] | None) -> None:
        """Count a deal that has ended, and show it to the observers; one that only noted its faults left this out."""
        self._trace, self.dealt = trace, dealt
        self.trainer.count(len(trace.task), self.dealer.pass_size)
        for observer in self.observers:
            observer(trace)

    def evaluate(
        self, policy: Router | Policy, split: SplitName = "test", *, greedy: bool = True, batch_size: int = 1024
    ) -> Evaluation:
        """Route a whole split without training. A deal in progress is not disturbed.

        Args:
            policy: a router, or a function from a state to legal actions int64 [B].
            split: "train", "validation" or "test".
            greedy: whether a router acts greedily; otherwise a copy of it draws, the same whenever it is called.
            batch_size: samples routed together.

        Raises:
            TypeError: ``policy`` is neither a router nor a function.
            ValueError: the split is empty, or an action is illegal.
        """
        forward = routed_forward(self.network, policy, self._score, greedy=greedy)
        depth, actions = self.spec.depth, self.spec.actions
        with self.evaluating():
            return evaluate(forward, self.data, self._score, split, depth=depth, actions=actions, batch_size=batch_size)

    @contextmanager
    def evaluating(self) -> Generator[None]:
        """Inside, the network is in evaluation mode, with the weights for evaluation, and has no gradients."""
        with network_mode(self.network, train=False), self.trainer.averaged():
            yield

    def judge(self, output: Tensor, batch: Batch) -> tuple[Outcome, Tensor]:
        """What finished routes lead to; nothing is trained or recorded.

        Args:
            output: of the network, float32 [B, O].
            batch: the samples.

        Returns:
            Their outcome, and r_final, float32 [B].
        """
        outcome, _ = self._score.outcome(output, batch)
        return outcome, reward_of(self.final_reward, outcome)

    @usual_torch()
    @torch.no_grad()
    def counterfactual_outcomes(self, routes: Tensor) -> Counterfactuals:
        """What the lanes of this deal meet with on given whole routes; nothing is trained, recorded or drawn.

        "This deal" is the one under way, or else the one that has ended last. What the network computes before the
        first decision is taken from it as it was dealt; the rest has its present weights, after the deal those behind
        the step of the blocks, and is in evaluation mode. Routes that begin alike share the work until they part.

        Args:
            routes: int64 [R, D] for every lane, or [R, B, D].

        Returns:
            For shape [R, B]. A final reward that looks at the whole deal sees it take one route at a time.

        Raises:
            RuntimeError: nothing has been dealt yet.
            ValueError: routes of another shape or type, or with actions that do not exist.
        """
        if self.dealt is None:
            raise RuntimeError("nothing has been dealt yet; call reset first")
        batch, x = self.dealt
        if waits := self.unattended is None:
            check_routes(routes, len(batch), self.spec)
        with network_mode(self.network, train=False):
            start = Route(self.network, x, batch.task)
            return outcomes_along(start, routes, batch, self.judge, self.collaboration, waits=waits)

    def log(self, values: Mapping[str, float]) -> None:
        """Keep the values that a router logs until :meth:`drain_log`.

        Raises:
            ValueError: they are not floats by name.
        """
        self.logged.add(check_learned(values))

    def drain_log(self) -> dict[str, float]:
        """The mean of each value that was logged since the last call."""
        return self.logged.drain()

    def state_dict(self) -> dict[str, Any]:
        """Everything but a deal under way, as nested dicts and lists of tensors and numbers."""
        parts = {name: part.state_dict() for name, part in self._parts().items()}
        network = {name: value.clone() for name, value in parts["network"].items()}
        return {**parts, "network": network, "pending": self._collected.state_dict()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore from :meth:`state_dict`; the next call must be :meth:`reset`.

        Raises:
            ValueError: The state does not fit this game. Nothing has changed, nor has a deal under way.
        """
        parts = self._parts()
        x, train = next(self.network.parameters()).new_empty(0, *self.data.input_shape), self.data.train
        pending = self._collected.fitting_state(Batch(x, train.task, train.target), self.spec.depth)
        check_state(state, {**dict.fromkeys(parts, ANYTHING), "pending": pending})
        restore(parts, {name: state[name] for name in parts})
        self._collected.load_state_dict(state["pending"], self.data.device)
        self._deal = self._trace = self.dealt = self._captured = None

    def _parts(self) -> dict[str, Stateful]:
        """What has a state; the network comes last, because undoing it would break a deal's graph."""
        parts: dict[str, Stateful] = {"dealer": self.dealer, "collaboration": self.collaboration}
        if isinstance(self.final_reward, MeasuredReward):
            parts["final_reward"] = self.final_reward
        return parts | {"trainer": self.trainer, "network": self.network}

    def _counterfactuals(self, deal: Deal, outcome: Outcome) -> Counterfactuals:
        """What other actions would have led to in a deal that has ended."""
        refuse_shared_rewards(self.final_reward, outcome)
        with network_mode(self.network, train=False):
            return one_step_outcomes(deal.route, deal.batch, self.judge, deal.offers, waits=self.unattended is None)

    def _end(self, deal: Deal) -> Trace:
        """Score the routes, reward them, and train their blocks."""
        batch, playing = deal.batch, deal.playing
        with network_mode(self.network, train=deal.train and not self.collects):
            outcome, loss = self._score.outcome(deal.route.output, batch, playing)
        others = self._counterfactuals(deal, outcome) if len(deal.offers) == self.spec.depth else None
        rewards = torch.stack(deal.rewards, dim=1)
        states, decisions = tuple(deal.route.states), tuple(deal.route.decisions)
        trace = Trace(states, decisions, rewards, reward_of(self.final_reward, outcome, playing), outcome, others)
        measured = None
        if isinstance(self.final_reward, MeasuredReward) and deal.train:
            measured = self.final_reward.begin(batch, partial(replay_routes, self.network, self._score, trace.actions))
        if self.router_loss is not None and deal.train:
            with torch.enable_grad():
                loss = loss + own_values("block_loss", self.router_loss(trace), loss.shape)
            trace = replace(trace, states=tuple(replace(state, v=state.v.detach()) for state in trace.states))
        if deal.train:
            if not self.collects:
                self._train_blocks(loss, playing)
            else:
                self._collect(batch, trace.actions, playing)
        if measured is not None:
            trace = replace(trace, final_reward=reward_of(lambda _: measured(), outcome, playing))
        return trace

    def _train_blocks(self, loss: Tensor, playing: Tensor | None) -> None:
        with torch.enable_grad():  # libraries switch gradients off while they play
            if playing is None:
                self.trainer.step(loss, unattended=self.unattended)
            elif playing.any():
                self.trainer.step(loss[playing])

    def _collect(self, batch: Batch, actions: Tensor, playing: Tensor | None) -> None:
        """Keep routed samples until there are enough for a step of the blocks, then take it."""
        if (collected := self._collected.add(batch, actions, playing)) is None:
            return
        batch, taken = collected
        with network_mode(self.network, train=True):
            output, _ = self.network(batch.x, batch.task, lambda state: taken[:, state.depth])
            _, loss, _ = self._score(output, batch)
            self.trainer.step(loss)
