"""An ensemble of static networks with as many parameters as one routed network."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from dataclasses import replace
from typing import Any, ClassVar, cast

import torch
from torch import Tensor, nn

from routing_env.baselines import baseline_class
from routing_env.baselines.base import Baseline, Plan, count_parameters, equal_width
from routing_env.game.dropout import SeededModule
from routing_env.game.evaluation import Score
from routing_env.names import as_integer, require
from routing_env.types import Batch


class Ensemble(Baseline):
    """Several networks of one kind, stems included, that start differently and train side by side on the same samples.

    Each member is trained on its own loss; the output is the mean of their outputs. For classification it is
    proportional to the geometric mean of the members' probabilities, since a mean of logits and a mean of
    log-probabilities differ by a constant per sample; for regression it is the mean of the predictions. (Deep
    ensembles, Lakshminarayanan, Pritzel & Blundell, NeurIPS 2017, who average the probabilities themselves and deal
    each member its samples in a different order.)

    The width is chosen so that all members together have at most as many parameters as the stem and all layers of the
    routed network. Members of a single layer have no width, and may have more. A step costs as much as a step of every
    member, convolutions included.

    Args:
        plan: The plan of the routed network. The first member takes its stem; the others have copies whose parameters
            are drawn again by the modules' ``reset_parameters``.
        of: The baseline that the members are, with its default options: a name, a reference or a class.
        members: Number of members.
        width: Width of the members; by default the largest with which they fit.

    Raises:
        ValueError: Unknown baseline, less than one member, a width of less than 1, or one that changes nothing.
    """

    sizes: ClassVar = ("depth",)

    def __init__(
        self,
        plan: Plan,
        *,
        of: str | type[Baseline] = "task_specific_1_fc",
        members: int = 4,
        width: int | None = None,
    ) -> None:
        super().__init__(replace(plan, stem=nn.Identity()))  # the members have the stems
        require("members", members, (as_integer(members) or 0) >= 1, "an integer of at least 1")
        build = cast(Callable[[Plan], Baseline], baseline_class(of))
        spare = plan.parameters - (members - 1) * count_parameters(plan.stem)
        share = replace(plan, parameters=max(0, spare // members))
        fitting = equal_width(share, build)
        if width is not None and fitting is None and share.depth > 1:
            raise ValueError(f"width is {width}, which changes nothing in members that are {of!r}; leave it out")
        share = share.resized(width=fitting if width is None else width)
        stems = [plan.stem, *(_drawn_again(plan.stem) for _ in range(members - 1))]
        self.members = nn.ModuleList(build(replace(share, stem=stem)) for stem in stems)
        for number, member in enumerate(self.members):
            for part in member.modules():
                if isinstance(part, SeededModule):  # otherwise all members would drop the same features
                    part.restart(2 * number)  # kinds of such modules differ by less in their seeds
        self.warning = self._each[0].warning

    @property
    def _each(self) -> list[Baseline]:
        return cast(list[Baseline], list(self.members))

    def head(self, v: Tensor, task: Tensor) -> Tensor:
        """The mean of the members' outputs for samples ``v``, which no common stem has changed."""
        return torch.stack([member(v, task) for member in self._each]).mean(0)

    def training_loss(self, batch: Batch, score: Score) -> tuple[Tensor, Tensor]:
        """The mean of the members' losses, and whether the mean of their outputs is correct."""
        outputs: list[Tensor] = []

        def scored(output: Tensor, batch: Batch) -> Any:
            outputs.append(output.detach())
            return score(output, batch)

        losses = [member.training_loss(batch, cast(Score, scored))[0] for member in self._each]
        _, _, correct = score(torch.stack(outputs).mean(0), batch)
        return torch.stack(losses).mean(0), correct


def _drawn_again(stem: nn.Module) -> nn.Module:
    """A copy of a stem whose parameters start elsewhere."""
    copy = deepcopy(stem)
    for part in copy.modules():
        reset: Any = getattr(part, "reset_parameters", None)
        if callable(reset):
            reset()
    return copy
