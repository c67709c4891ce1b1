"""docs/command_line.md: every input of every node, and the command and option that carry it."""

from __future__ import annotations

import argparse
import json
import re
from pathlib import Path

import pytest

from playmate_core.cli.main import build_parser

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "command_line.md"
SCHEMAS = json.loads((ROOT / "tests" / "data" / "node_schemas.json").read_text(encoding="utf-8"))
WITHOUT = "only in ComfyUI: "
"""How a row begins whose input no command has; the reason follows."""


def rows_of(text: str) -> list[tuple[str, str, str]]:
    """(node, input, what stands beside it) of the page's tables, one below each node's heading."""
    node, rows = None, []
    for line in text.splitlines():
        if heading := re.match(r"#+ .*\(`(\w+)`\)$", line):
            node = heading[1]
        elif line.startswith("#"):
            node = None
        elif node is not None and (row := re.match(r"\| `(\w+)` \| (.+) \|$", line)):
            rows.append((node, row[1], row[2]))
    return rows


ROWS = rows_of(PAGE.read_text(encoding="utf-8"))


def below(parser: argparse.ArgumentParser) -> dict[str, argparse.ArgumentParser]:
    """A parser's subcommands."""
    return {name: child for action in parser._actions if isinstance(action, argparse._SubParsersAction)
            for name, child in action.choices.items()}


def wrong_with(command: str, parser: argparse.ArgumentParser) -> str | None:
    """What of ``command`` the parser does not have; None if it has all of it."""
    words = command.split()
    while words and words[0] in below(parser):
        parser = below(parser)[words.pop(0)]
    if below(parser):
        return "no whole command"
    positionals = {action.dest.upper() for action in parser._actions if not action.option_strings}
    options = {option for action in parser._actions for option in action.option_strings}
    return next((word for word in words if word not in (options if word.startswith("-") else positionals)), None)


def test_every_input_of_every_node_stands_there_once():
    wanted = {(node, name) for node, schema in SCHEMAS.items() for name in schema["inputs"]}
    found = [row[:2] for row in ROWS]
    assert sorted(found) == sorted(wanted)


@pytest.mark.parametrize("node", sorted(SCHEMAS))
def test_what_stands_there_exists(node):
    parser = build_parser()
    for _, name, text in (row for row in ROWS if row[0] == node):
        commands = re.findall(r"`([^`]+)`", text)
        assert bool(commands) != text.startswith(WITHOUT), f"{name}: a command, or a reason why there is none"
        for command in commands:
            assert wrong_with(command, parser) is None, f"{name}: {command}: {wrong_with(command, parser)}"
        if not commands:
            assert len(text) > len(WITHOUT) + 20, f"{name}: no reason"


def test_what_does_not_exist_is_noticed():
    parser = build_parser()
    assert wrong_with("edit blend --nose", parser) == "--nose"
    assert wrong_with("edit blend THIRD", parser) == "THIRD"
    assert wrong_with("edit", parser) == "no whole command"
    assert wrong_with("fly --high", parser) is not None
    assert rows_of("### A (`A`)\n| `x` | y |\n## B\n| `x` | z |") == [("A", "x", "y")]


def test_names_that_the_parser_repeats_are_the_library_s():
    """Parsers are built without torch, which the library's own lists would load."""
    from playmate_core.cli.edits.expression import WHAT
    from playmate_core.cli.edits.pose import AXES
    from playmate_core.cli.edits.step import PARTS
    from playmate_core.motion.pose import POSE_AXES
    from playmate_core.motion.regions import REGIONS
    from playmate_core.motion.sliders import SLIDERS

    assert PARTS == REGIONS and AXES == POSE_AXES and list(WHAT) == list(SLIDERS)
    for name, (low, high) in SLIDERS.items():
        assert WHAT[name].endswith(f": {low:g} to {high:g}")
