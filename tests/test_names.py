"""Unknown names get help; references to classes of one's own are followed or explained."""

from __future__ import annotations

from pathlib import Path

import pytest

from routing_env.agents import make_router, router_class
from routing_env.agents.wpl import WPL
from routing_env.data import load
from routing_env.game.build import make_game
from routing_env.game.settings import GameConfig
from routing_env.names import import_object, look_up, suggestion


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
        make_game(GameConfig(network="simple_convet"))  # pyright: ignore[reportArgumentType]
    spec = make_game(GameConfig(network="mlp", hidden=4, blocks=2)).spec
    with pytest.raises(ValueError, match=r"has no option 'stepp'; did you mean 'step'\?"):
        make_router("wpl", spec, stepp=0.1)


def test_references_to_classes(tmp_path: Path) -> None:
    assert import_object("routing_env.agents.wpl:WPL") is WPL
    own = tmp_path / "own_router_for_a_test.py"
    own.write_text("class Mine:\n    pass\n")
    assert import_object(f"{own}:Mine").__name__ == "Mine"
    with pytest.raises(ValueError, match=r"has no 'Mien'; did you mean 'Mine'\?"):
        import_object(f"{own}:Mien")
    with pytest.raises(ValueError, match="is no router: it lacks act, learn"):
        router_class(f"{own}:Mine")


@pytest.mark.parametrize(
    ("reference", "message"),
    [
        ("WPL", "not of the form module:Name or file.py:Name"),
        ("routing_env.agents.wpl:", "not of the form"),
        ("no_such_module_anywhere:X", "cannot import 'no_such_module_anywhere'"),
        ("no/such/file.py:X", "there is no file no/such/file.py"),
    ],
)
def test_references_that_lead_nowhere(reference: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        import_object(reference)
