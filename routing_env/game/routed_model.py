"""Any network with decisions in it: where they fall, and the lanes of a deal on their way through.

A model says in one generator what it computes and where a block is to be chosen:

    class Net(RoutedModel):
        def route(self, x, task):
            v = self.conv(x)
            v = yield Choice(self.first, v)  # a BlockBank; what comes back is the output of the chosen blocks
            v = self.norm(v)
            v = yield Choice(self.second, v)
            return self.head(v)

The game drives it step by step, and ``model(x, task, router)`` does so in your own loop.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Generator, Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from routing_env.game.blocks import BlockBank, Representation, in_rows, map_tensors, tensors_of, tried
from routing_env.game.checks import check_decision
from routing_env.game.choices import Choice
from routing_env.game.own_parts import own_values
from routing_env.types import Decision, GameSpec, Outcome, Policy, Router, State, Trace

Walk = Generator[Choice, Any, Tensor]
"""Yields choices, receives the blocks' outputs, and returns the output of the network, float [B, O]."""


class RoutedModel(nn.Module, ABC):
    """A network with decisions in it. A subclass implements :meth:`route`.

    All lanes take the same number of decisions, D: where a lane does not take part in a decision, or a route has ended
    before D, its only legal action is PASS. So games, routers and records are the same for all models. Everything that
    they need to know is measured by a trial run without gradients, on two samples of ones per task.

    Attributes:
        visitors: int64 [T, D], actions of tasks whose agents have no choice, and -1 for the others; None: all choose.
        max_depth: The most decisions of a route, for models where the number depends on the data; None: as in the
            trial.
        depth: D. Known after the trial, as the following ones.
        actions: A, the largest number of blocks of a decision, and PASS where it occurs.
        features: F, the most numbers that a router sees.
        pass_action: The number of the PASS action, A - 1, or None.
        input_shape: Shape of one sample.
        output_shape: Shape of one output, (O,).
    """

    visitors: Tensor | None = None
    max_depth: int | None = None
    depth: int
    actions: int
    features: int
    pass_action: int | None
    input_shape: tuple[int, ...]
    output_shape: tuple[int, ...]

    @abstractmethod
    def route(self, x: Tensor, task: Tensor) -> Walk:
        """The way of a batch through the network.

        Args:
            x: What :meth:`encode` returns, by default the samples float32 [B, *input_shape].
            task: int64 [B].

        Yields:
            Decisions.

        Returns:
            The output float32 [B, O].
        """
        ...

    def encode(self, x: Tensor) -> Tensor:
        """What comes before the first decision, by default nothing, for samples float32 [B, *input_shape].

        Returns:
            A tensor [B, ...] that every route of these samples begins with; it is computed once.
        """
        return x

    def spec(
        self, tasks: int, device: torch.device | None = None, input_shape: Sequence[int] | None = None
    ) -> GameSpec:
        """What a router for this network needs to know.

        Args:
            tasks: T.
            device: Where the tensors of the game are; by default where the parameters are.
            input_shape: Shape of one sample; it may be left out once it is known.

        Raises:
            ValueError: The trial run fails, or no decision falls in it.
        """
        shape = getattr(self, "input_shape", None) if input_shape is None else tuple(input_shape)
        if shape is None:
            raise ValueError("input_shape is not known yet; give the shape of one sample")
        device = device or next((parameter.device for parameter in self.parameters()), torch.device("cpu"))
        blocks = self._try(tasks, shape)
        legal = torch.zeros(self.depth, self.actions, dtype=torch.bool, device=device)
        for depth, size in enumerate(blocks):
            legal[depth, :size] = True
        if self.pass_action is not None:
            legal[:, self.pass_action] = True
        return GameSpec(
            tasks=tasks,
            depth=self.depth,
            actions=self.actions,
            features=self.features,
            legal=legal,
            layers=tuple(tuple(range(size)) or (self.actions - 1,) for size in blocks),
            device=device,
            pass_action=self.pass_action,
        )

    def parameter_groups(self) -> dict[str, list[nn.Parameter]]:
        """The parameters of the "blocks" and the "rest", for optimisers with separate learning rates."""
        banks = [module for module in self.modules() if isinstance(module, BlockBank)]
        blocks = {parameter: None for bank in banks for parameter in bank.parameters()}
        return {"blocks": list(blocks), "rest": [each for each in self.parameters() if each not in blocks]}

    def start(self, x: Tensor, task: Tensor) -> Route:
        """Begin a deal."""
        return Route(self, self.encode(x), task)

    def forward(
        self, x: Tensor, task: Tensor, policy: Router | Policy, *, greedy: bool | None = None
    ) -> tuple[Tensor, Route]:
        """Algorithm 1: route every sample to the end.

        Args:
            x: float32 [B, *input_shape].
            task: int64 [B].
            policy: A router, or a function from the state at each depth to actions int64 [B].
            greedy: Whether a router acts greedily; by default when the model is in evaluation mode.

        Returns:
            The output float32 [B, O], and the routes.

        Raises:
            ValueError: A decision does not fit, or is illegal.
        """
        if not hasattr(self, "depth"):
            self.spec(int(task.max()) + 1, input_shape=x.shape[1:])
        greedy = not self.training if greedy is None else greedy
        route = self.start(x, task)
        while route.depth < self.depth:
            state = route.observe()
            decision = policy.act(state, greedy=greedy) if isinstance(policy, Router) else Decision(policy(state))
            check_decision(decision, state)
            route.apply(decision)
        return route.output, route

    def _try(self, tasks: int, input_shape: tuple[int, ...]) -> list[int]:
        """Run the model on samples of ones, and measure it. Returns the number of blocks at each depth."""
        parameter = next(self.parameters(), torch.empty(0))
        task = torch.arange(tasks, device=parameter.device).repeat(2)
        x = parameter.new_ones(len(task), *input_shape)
        sizes: list[int] = []
        widths: list[int] = []
        passes = self.max_depth is not None
        try:
            with tried(self), torch.random.fork_rng(devices=[]):
                walk, sent = self.route(self.encode(x), task), None
                while True:
                    try:
                        choice = walk.send(sent)
                    except StopIteration as end:
                        output = end.value
                        break
                    if choice.is_decision:
                        sizes.append(len(choice.bank))
                        widths.append(choice.seen().shape[1])
                        passes |= choice.may_pass or choice.active is not None
                    given = [choice.apply(torch.full_like(task, block)) for block in range(len(choice.bank))]
                    forms = [[list(part.shape[1:]) for part in tensors_of(v)] for v in given]
                    for block, form in enumerate(forms):
                        if form != forms[0]:
                            raise ValueError(
                                f"the blocks of a bank must return the same form; at decision {len(sizes)}, block "
                                f"{block} returns {form}, and block 0 {forms[0]}"
                            )
                    sent = given[0]
        except (RuntimeError, TypeError, IndexError, AttributeError) as error:
            raise ValueError(f"{type(self).__name__} does not take samples of shape {input_shape}: {error}") from error
        if not sizes:
            raise ValueError(f"{type(self).__name__} has nothing to decide: no choice of more than one block")
        if not isinstance(cast(object, output), Tensor) or output.dim() != 2 or len(output) != len(task):
            found = list(output.shape) if isinstance(cast(object, output), Tensor) else type(output).__name__
            raise ValueError(f"route must return a tensor [lanes, outputs]; it returned {found}")
        self.depth = self.max_depth or len(sizes)
        if self.depth < len(sizes):
            raise ValueError(f"max_depth is {self.depth}, but the route has {len(sizes)} decisions")
        self.actions = max(sizes) + passes
        self.pass_action = self.actions - 1 if passes else None
        self.features = max(*widths, output.shape[1])
        self.input_shape, self.output_shape = input_shape, (output.shape[1],)
        return sizes + [max(sizes)] * (self.depth - len(sizes))


class Route:
    """The lanes of one deal on their way through a model.

    Attributes:
        model: The model.
        x: What the model's ``encode`` has made of the samples.
        task: int64 [B].
        depth: Number of decisions taken so far.
        states: What was observed at each depth.
        decisions: What was decided.
    """

    def __init__(self, model: RoutedModel, x: Tensor, task: Tensor) -> None:
        self.model = model
        self.x = x
        self.task = task
        self.depth = 0
        self.states: list[State] = []
        self.decisions: list[Decision] = []
        self._returned: list[Representation] = []  # what the blocks have returned at each depth
        self._state: State | None = None  # what was observed at this depth
        self._choice: Choice | None = None
        self._output: Tensor | None = None
        self._failed = False
        self._walk = model.route(x, task)
        self._go_on(None)

    @property
    def output(self) -> Tensor:
        """The output of the network, float [B, O], once the routes have ended."""
        if self._output is None:
            raise RuntimeError("the routes have not ended")
        return self._output

    @property
    def actions(self) -> Tensor:
        """int64 [B, depth]."""
        return torch.stack([decision.action for decision in self.decisions], dim=1)

    def observe(self, *, attached: bool = False) -> State:
        """The state at this depth, detached from the graph unless ``attached``."""
        if self._state is None:
            v = self.output.flatten(1) if self._choice is None else self._choice.seen()
            missing = self.model.features - v.shape[1]
            v = F.pad(v, (0, missing)) if missing else v
            agent = self.decisions[-1].agent if self.decisions else None
            self._state = State(v if attached else v.detach(), self.task, self.depth, self._legal(), agent)
            self.states.append(self._state)
        return self._state

    def apply(self, decision: Decision, *, playing: Tensor | None = None) -> None:
        """Apply one block per lane, or PASS.

        Args:
            decision: Legal in every playing lane.
            playing: bool [B], the lanes that have not forfeited their route; None: all.

        Raises:
            RuntimeError: The model has failed earlier in this deal.
        """
        self.observe()
        if self._failed:
            raise RuntimeError("the model has failed in this deal; begin another one")
        if self._choice is not None:
            v = self._choice.apply(decision.action, playing)
            if (gate := decision.gate) is not None:
                v = map_tensors(
                    lambda part: part * gate.view(-1, *[1] * (part.dim() - 1)) if part.is_floating_point() else part, v
                )
            self._returned.append(v)
            self._go_on(v)
        self.decisions.append(decision)
        self.depth += 1
        self._state = None

    def fork(self, depth: int | None = None, *, lanes: Tensor | None = None) -> Route:
        """Another route that goes on from here, or from an earlier depth.

        What the blocks returned on the way is taken over, as is what ``encode`` returned; the model computes again what
        else is not routed.

        Args:
            depth: Number of decisions that are kept; by default all.
            lanes: int64 [N], the lanes that go on, each as often as it is named; by default every lane once. The fork
                does not remember their earlier states and decisions.
        """
        depth = self.depth if depth is None else depth
        x, task, returned = self.x, self.task, self._returned[:depth]
        if lanes is not None:
            x, task, returned = x[lanes], task[lanes], [in_rows(v, lanes) for v in returned]
        other = Route(self.model, x, task)
        for v in returned:
            other._returned.append(v)
            other.depth += 1
            other._go_on(v)
        other.depth = depth  # also where the model has ended earlier
        if lanes is None:
            other.states, other.decisions = self.states[:depth], self.decisions[:depth]
        return other

    def score(
        self, reward: Tensor | None = None, *, loss: Tensor | None = None, action_rewards: Tensor | None = None
    ) -> Trace:
        """The routes with their rewards, for a router to learn from in your own loop.

        Args:
            reward: r_final, float32 [B]; by default the negative loss.
            loss: float32 [B].
            action_rewards: float32 [B, D]; by default 0.

        Raises:
            ValueError: Neither reward nor loss is given, or one has another shape.
        """
        loss = None if loss is None else own_values("loss", loss, self.task.shape).detach()
        given = -loss if reward is None and loss is not None else reward
        if given is None:
            raise ValueError(f"score needs a reward or a loss per lane, float [{len(self.task)}]; got nothing")
        final_reward = own_values("reward", given, self.task.shape).detach().to(torch.float32)
        output = self.output.detach()
        nothing = output.new_empty(len(output), 0)
        outcome = Outcome(
            task=self.task,
            output=output,
            prediction=nothing,
            target=nothing,
            loss=-final_reward if loss is None else loss,
            correct=torch.zeros_like(self.task, dtype=torch.bool),
            forfeited=torch.zeros_like(self.task, dtype=torch.bool),
        )
        shape = len(self.task), self.depth
        action_rewards = final_reward.new_zeros(shape) if action_rewards is None else action_rewards
        action_rewards = own_values("action_rewards", action_rewards, shape).to(torch.float32)
        return Trace(tuple(self.states), tuple(self.decisions), action_rewards, final_reward, outcome)

    def _legal(self) -> Tensor:
        """Bool [B, A]; visitors have no choice."""
        legal, visitors = self._open(), self.model.visitors
        if visitors is None or self._choice is None:
            return legal
        action = visitors[self.task, self.depth]
        only = F.one_hot(action.clamp_min(0), self.model.actions).bool()
        return torch.where((action >= 0)[:, None], only & legal, legal)

    def _open(self) -> Tensor:
        """The actions that the model allows, bool [B, A]."""
        model, choice, lanes = self.model, self._choice, len(self.task)
        if choice is not None and choice.legal is not None and choice.legal.shape[-1] == model.actions:
            return choice.legal.expand(lanes, -1)  # the model numbers its actions itself
        legal = torch.zeros(lanes, model.actions, dtype=torch.bool, device=self.task.device)
        if choice is None:
            legal[:, -1] = True
            return legal
        blocks = len(choice.bank)
        legal[:, :blocks] = True if choice.legal is None else choice.legal
        if choice.may_pass:
            legal[:, -1] = True
        if choice.active is not None:
            legal &= choice.active[:, None]
            legal[:, -1] |= ~choice.active
        return legal

    def _go_on(self, sent: Representation) -> None:
        """Let the model compute up to its next decision, or to the end."""
        try:
            choice = self._walk.send(sent)
            while not choice.is_decision:
                choice = self._walk.send(choice.apply(torch.zeros_like(self.task)))
            self._choice = choice
        except StopIteration as end:
            self._choice, self._output = None, end.value
        except BaseException:
            self._failed = True
            raise
        self._check_form()

    def _check_form(self) -> None:
        """Refuse what the trial run has not shown."""
        model, choice = self.model, self._choice
        decided = self.depth + (self._state is not None)
        if choice is None:
            if model.pass_action is None and decided < model.depth:
                raise ValueError(
                    f"a route ended after {decided} of {model.depth} decisions; set max_depth where their number "
                    "depends on the data"
                )
            return
        if decided >= model.depth:
            raise ValueError(f"a route has more than {model.depth} decisions; set max_depth to the most there can be")
        if (choice.active is not None or choice.may_pass) and model.pass_action is None:
            raise ValueError("lanes may pass, which no decision of the trial run showed; set max_depth")
        if len(choice.bank) > model.actions:
            raise ValueError(
                f"a decision has {len(choice.bank)} blocks; in the trial run no decision had more than {model.actions}"
            )
