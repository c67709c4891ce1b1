"""Dates and widgets' values in file names; without a server."""

import time

import pytest

from tests.node_helpers import node_modules

NOW = time.struct_time((2026, 3, 7, 9, 5, 2, 5, 66, 0))
PROMPT = {
    "1": {"class_type": "LoadImage", "inputs": {"image": "faces/anna.png"}, "_meta": {"title": "Portrait"}},
    "2": {"class_type": "PlaymateMotionSampler", "inputs": {"seed": 7, "speech": ["3", 0]}},
}
DRAWN = {"workflow": {"nodes": [{"id": 2, "title": "My sampler", "properties": {"Node name for S&R": "Take"}}]}}


@pytest.fixture(scope="module")
def tokens():
    with node_modules("tokens") as pack:
        yield pack.tokens


@pytest.mark.parametrize("prefix, wanted", [
    ("motions/%date:yyyy-MM-dd%/take", "motions/2026-03-07/take"), ("%date:yy-M-d hhmmss%", "26-3-7 090502"),
    ("%date:hh:mm%", "09_05"), ("%Portrait.image%", "faces_anna.png"), ("a_%Take.seed%", "a_7"),
    ("%My sampler.seed%", "7"), ("%PlaymateMotionSampler.seed%", "7"), ("%year%/%width%", "%year%/%width%"),
    ("%Nobody.seed%", "%Nobody.seed%"), ("%Take.speech%", "%Take.speech%"), ("plain 100%", "plain 100%"),
])
def test_tokens_are_filled_in(tokens, prefix, wanted):
    assert tokens.filled(prefix, PROMPT, DRAWN, NOW) == wanted


def test_nothing_that_is_filled_in_leads_out_of_the_folder(tokens):
    prompt = {"1": {"class_type": "Node", "inputs": {"text": "../../etc\\x:y"}}}
    assert tokens.filled("%Node.text%", prompt) == ".._.._etc_x_y"
    assert tokens.filled("%date:../yyyy%", now=NOW) == ".._2026"
    assert tokens.without_tokens("a/%date:hh:mm%_%Node.a/b%") == "a/x_x"
