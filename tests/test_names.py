"""Unknown names get help; references to your own classes are followed or explained; options say what they mean."""

from __future__ import annotations

from dataclasses import dataclass, field, make_dataclass
from functools import partial
from inspect import signature
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest

from routing_env.agents import make_router, router_class
from routing_env.agents.wpl import WPL
from routing_env.baselines import BASELINES, baseline_class
from routing_env.data import load
from routing_env.game.build import make_game
from routing_env.names import (
    by_number,
    check_options,
    counted,
    field_docs,
    find,
    import_object,
    is_number,
    look_up,
    option_docs,
    reference,
    require,
    suggestion,
)


def test_things_are_counted_in_words() -> None:
    assert [counted(number, "epoch") for number in (0, 1, 2000)] == ["0 epochs", "1 epoch", "2,000 epochs"]


def test_the_nearest_name_is_suggested() -> None:
    known = {"digits": 1, "mnist": 2}
    assert look_up("data set", "mnist", known) == 2
    with pytest.raises(ValueError, match=r"unknown data set 'digit'; did you mean 'digits'\?"):
        look_up("data set", "digit", known)
    assert suggestion("zzz", known) == "known: digits, mnist"


def test_unknown_names_of_each_kind() -> None:
    with pytest.raises(ValueError, match=r"unknown data set 'digist'; did you mean 'digits'\?"):
        load("digist")
    with pytest.raises(ValueError, match=r"unknown router 'wlp'; did you mean 'wpl'\?"):
        router_class("wlp")
    with pytest.raises(ValueError, match=r"unknown network 'simple_convet'; did you mean 'simple_convnet'\?"):
        make_game(network="simple_convet")  # pyright: ignore[reportArgumentType]
    spec = make_game(network="mlp", hidden=4, blocks=2).spec
    with pytest.raises(ValueError, match=r"has no option 'stepp'; did you mean 'step'\?"):
        make_router("wpl", spec, stepp=0.1)


def test_references_to_classes(tmp_path: Path) -> None:
    assert import_object("routing_env.agents.wpl:WPL") is WPL
    own = tmp_path / "own_router_for_a_test.py"
    own.write_text("class Mine:\n    pass\n")
    assert import_object(f"{own}:Mine").__name__ == "Mine"
    with pytest.raises(ValueError, match=r"has no 'Mien'; did you mean 'Mine'\?"):
        import_object(f"{own}:Mien")
    with pytest.raises(ValueError, match=r"Mine' is not a router: it must subclass routing_env\.types\.Router"):
        router_class(f"{own}:Mine")
    with pytest.raises(ValueError, match=r"is not a router: `act` is missing"):
        router_class("routing_env.types:Router")


@pytest.mark.parametrize(
    ("place", "message"),
    [
        ("WPL", "not of the form module:Name or file.py:Name"),
        ("routing_env.agents.wpl:", "not of the form"),
        ("no_such_module_anywhere:X", "cannot import 'no_such_module_anywhere'"),
        ("no/such/file.py:X", "there is no file no/such/file.py"),
    ],
)
def test_references_that_lead_nowhere(place: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        import_object(place)


def test_what_has_no_name_of_its_own_is_told_apart_and_not_imported() -> None:
    twice, thrice = (partial(counted, number) for number in (2, 3))
    assert reference(twice) != reference(thrice)
    for unnamed in (twice, lambda: 0):
        with pytest.raises(ValueError, match="define a function or class at the top of its module"):
            import_object(reference(unnamed))


def test_a_name_a_reference_and_the_object_itself_mean_the_same() -> None:
    known: dict[str, object] = {"wpl": "routing_env.agents.wpl:WPL", "count": len}
    assert find("router", "wpl", known) is find("router", "routing_env.agents.wpl:WPL", known) is WPL
    assert find("router", WPL, known) is WPL
    assert find("function", "count", known) is len
    with pytest.raises(ValueError, match=r"unknown router 'wlp'; did you mean 'wpl'\?"):
        find("router", "wlp", known)


def test_options_are_checked_against_the_signature() -> None:
    def build(plan: str, *, width: int = 1) -> None: ...

    def build_anything(**options: int) -> None: ...

    def build_as_is(plan: str) -> None: ...

    check_options("house", build, ["width"], besides=("plan",))
    check_options("house", build_anything, ["width"])
    with pytest.raises(ValueError, match=r"house has no option 'widht'; did you mean 'width'\?"):
        check_options("house", build, ["width", "widht"], besides=("plan",))
    with pytest.raises(ValueError, match="house has no option 'plan'; known: width"):
        check_options("house", build, ["plan"], besides=("plan",))
    with pytest.raises(ValueError, match="house has no option 'width'; it has no options"):
        check_options("house", build_as_is, ["width"], besides=("plan",))


def test_a_refused_value_is_named() -> None:
    require("rho", 0.3, True, "at least 0")
    with pytest.raises(ValueError, match=r"^rho is 'x'; it must be at least 0$"):
        require("rho", "x", False, "at least 0")


def test_numbers_and_their_ranges() -> None:
    assert is_number(0.5)
    assert is_number(np.float32(0.5), "in (0, 1]")
    assert not any(is_number(value) for value in (True, "1", None, [1.0], 1j))
    ends = {"at least 0": (True, True, True), "above 0": (False, True, True)}
    ends |= {"in [0, 1]": (True, True, False), "in (0, 1]": (False, True, False)}
    for within, expected in ends.items():
        assert tuple(is_number(value, within) for value in (0, 1, 2)) == expected  # pyright: ignore[reportArgumentType]
        assert not is_number(-1e-9, within)  # pyright: ignore[reportArgumentType]
        assert not is_number(float("nan"), within)  # pyright: ignore[reportArgumentType]


@dataclass
class Shape:
    """A shape."""

    colour: str = "red"
    """Colour of the outline,
    not of the inside."""
    corners: int = 3
    """Number of corners."""
    kind: ClassVar[str] = "shape"
    """Not an option."""
    area: float = field(default=0.0, init=False)
    """Not an option either."""
    silent: int = 0


class Plain(Shape):
    """Not a dataclass."""

    other: int = 1
    """Not a field."""


@dataclass
class Square(Plain):
    """A square."""

    size: float = 1.0
    """Length of a side."""
    corners: int = 4


@dataclass
class Rounded(Square):
    """A square whose corners are round."""

    size: float = 2.0
    """Length of a side, corners included."""


def test_the_docstrings_below_fields_are_read_and_inherited() -> None:
    colour = "Colour of the outline,\nnot of the inside."
    assert field_docs(Shape) == {"colour": colour, "corners": "Number of corners."}
    assert field_docs(Square) == {"colour": colour, "corners": "Number of corners.", "size": "Length of a side."}
    assert field_docs(Rounded)["size"] == "Length of a side, corners included."


class Painted:
    """Something in a colour.

    Args:
        colour: Of the outline,
            not of the inside: that stays empty.
        corners: Number of corners.

    Raises:
        ValueError: No colour.
    """


def test_options_of_plain_classes_are_read_from_their_docstrings() -> None:
    colour = "Of the outline, not of the inside: that stays empty."
    assert option_docs(Painted) == {"colour": colour, "corners": "Number of corners."}
    assert option_docs(Rounded) == field_docs(Rounded)
    for name in BASELINES:
        found = baseline_class(name)
        assert option_docs(found).keys() >= signature(found).parameters.keys(), "each option says what it means"


def test_classes_without_source_have_no_docs_of_their_own() -> None:
    made = make_dataclass("made", [("depth", int, 1)], bases=(Shape,))
    assert list(field_docs(made)) == ["colour", "corners"]


def test_run_folders_are_in_the_order_of_their_times_and_numbers() -> None:
    stamps = ["20260101-090000-seed0", "20260101-090000-seed0-2", "20260101-090000-seed0-9", "20260101-090000-seed0-10"]
    stamps += ["20260101-100000-seed0", "20261001-090000-seed0"]
    assert sorted(set(stamps), key=by_number) == stamps != sorted(stamps)
    assert sorted(["run10", "run9", "other", "9", "run"], key=by_number) == ["9", "other", "run", "run9", "run10"]
