"""The numbers of the paper's Table 2."""

from __future__ import annotations

EPOCHS = (1, 5, 10, 20, 50, 100)
"""Epochs after which Table 2 gives the test accuracy."""

PAPERS_NAMES = {
    "reinforce-approx": "REINFORCE: approx",
    "q-learning-approx": "Qlearning: approx",
    "q-learning": "Qlearning: table",
    "wpl": "routing-all-fc (MARL-WPL)",
    "wpl recursive": "routing-all-fc recursive",
    "wpl dispatched": "routing-all-fc dispatched",
    "wpl single": "routing-all-fc single agent",
    "soft_mixture": "soft mixture-all-fc",
    "task_specific_all_fc": "task specific-all-fc",
    "task_specific_1_fc": "task specific-1-fc",
    "cross_stitch": "cross stitch-all-fc",
}
"""Our entrants' names to those in Table 2."""

TABLE_2: dict[str, dict[str, tuple[float, ...]]] = {
    "Figure 4": {
        "reinforce-approx": (20, 20, 20, 20, 20, 20),
        "q-learning-approx": (20, 20, 20, 20, 24, 25),
        "q-learning": (20, 36, 47, 50, 55, 55),
        "wpl": (31, 53, 57, 58, 60, 60),
    },
    "Figure 5": {
        "wpl": (31, 53, 57, 58, 60, 60),
        "wpl recursive": (31, 43, 45, 48, 48, 46),
        "wpl dispatched": (20, 23, 28, 37, 42, 41),
        "soft_mixture": (20, 24, 27, 30, 32, 35),
        "wpl single": (20, 23, 33, 42, 44, 44),
    },
    "Figure 6": {
        "wpl": (31, 53, 57, 58, 60, 60),
        "task_specific_all_fc": (21, 29, 33, 36, 42, 42),
        "task_specific_1_fc": (27, 34, 39, 42, 48, 49),
        "cross_stitch": (26, 37, 42, 49, 52, 53),
    },
    "Figure 7": {
        "wpl": (34, 54, 57, 55, 58, 57),
        "task_specific_all_fc": (22, 30, 37, 43, 47, 48),
        "task_specific_1_fc": (29, 38, 43, 46, 51, 51),
        "cross_stitch": (29, 41, 48, 53, 56, 55),
    },
    "Figure 8": {
        "wpl": (90, 90, 98, 99, 99, 99),
        "task_specific_all_fc": (90, 91, 94, 95, 95, 96),
        "task_specific_1_fc": (90, 90, 91, 92, 93, 95),
        "soft_mixture": (90, 90, 90, 90, 90, 90),
        "cross_stitch": (90, 90, 90, 90, 90, 90),
    },
}
"""Figure to entrant to test accuracies in %, one for each of ``EPOCHS``."""
