"""The replay of a training: a slider that moves policies, routing map and block use together."""

from __future__ import annotations

import base64
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.colors import to_hex
from numpy.typing import NDArray

from routing_env.drawing.map_layout import shares_of
from routing_env.drawing.style import lightness, task_colours
from routing_env.evaluations import Rows, measured_split
from routing_env.html.page import embedded, text
from routing_env.names import printable
from routing_env.types import GameSpec

MOST = 200
"""Snapshots of a replay; of more, as many that are spread evenly over those that there are."""


@dataclass(frozen=True)
class TrainingReplay:
    """What is replayed.

    Attributes:
        samples: int64 [N], training samples at each snapshot.
        policies: float [N, T, D, A], shares in [0, 1].
        measure: What these are, in words.
        names: Names of the T tasks.
        legal: bool [D, A].
        pass_action: The PASS action, if there is one.
    """

    samples: NDArray[np.int64]
    policies: NDArray[np.floating[Any]]
    measure: str
    names: Sequence[str]
    legal: NDArray[np.bool_]
    pass_action: int | None

    def html(self) -> str:
        """The replay as HTML. Shares have a precision of 1/255."""
        kept = np.unique(np.linspace(0, len(self.samples) - 1, min(MOST, len(self.samples))).round().astype(int))
        levels = np.rint(255 * self.policies[kept]).astype(np.uint8)
        colours = task_colours(len(self.names))
        content = {
            "samples": self.samples[kept].tolist(),
            "names": list(map(printable, self.names)),
            "colours": [to_hex(colour) for colour in colours],
            "inks": ["#000000" if lightness(colour) > 0.5 else "#ffffff" for colour in colours],
            "legal": [np.flatnonzero(row).tolist() for row in self.legal],
            "actions": self.legal.shape[1],
            "pass": self.pass_action,
            "policies": base64.b64encode(zlib.compress(levels.tobytes(), 9)).decode(),
        }
        tasks = "".join(f'<option value="{task}">{task}: {text(name)}</option>' for task, name in enumerate(self.names))
        last = len(kept) - 1
        return f"""<div class="replay">{embedded(content)}
<div class="controls"><span class="slide"><button type="button" class="play" aria-label="play">▶</button>
<input type="range" min="0" max="{last}" value="{last}" step="1" aria-label="time in training"></span><output></output>
<label>Highlight <select><option value="-1">all tasks</option>{tasks}</select></label></div>
<div class="views"><section><h3>Routing map</h3><p class="note">Each task's most frequent action at each depth; faint
where it is undecided. Tap a task to see all of its routes.</p><div class="scroll map"></div></section>
<section><h3>Block use</h3><p class="note">Mean over tasks of the {text(self.measure)}, in %; a panel per
depth, a bar per action.</p><div class="use"></div></section></div>
<h3>Policies over time</h3><p class="note">From left to right the snapshots of the training, finer at its beginning;
from top to bottom the actions. Dark is frequent (light on dark). Here: {text(self.measure)}.</p>
<div class="scroll strips"></div></div>"""


def replay_of(
    rows: Rows, history: Mapping[str, Any] | None, spec: GameSpec, names: Sequence[str]
) -> TrainingReplay | None:
    """The replay of a run: of its policies where they are known, else of its routes after each epoch.

    Args:
        rows: Metrics of the run.
        history: ``samples`` int64 [N] and ``policies`` [N, T, D, A] of its snapshots, if there are any.
        spec: The sizes of the game.
        names: Names of the T tasks.

    Returns:
        None where the run has neither.
    """
    legal = spec.legal.cpu().numpy()
    if history is not None and len(history["samples"]) and not np.isnan(history["policies"]).any():
        samples, policies, measure = history["samples"], history["policies"], "probability of each action"
    else:
        key = f"{measured_split(rows)}_routes"
        if key not in rows[-1]:
            return None
        measured = [row for row in rows if key in row and np.shape(row[key]) == np.shape(rows[-1][key])]
        samples = np.array([row["samples"] for row in measured], dtype=np.int64)
        policies = np.array([shares_of(np.array(row[key]), spec.actions) for row in measured])
        measure = f"share of the samples ({measured_split(rows)} split)"
    return TrainingReplay(samples, policies, measure, names, legal, spec.pass_action)
