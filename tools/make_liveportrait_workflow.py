"""Writes workflows/liveportrait/quick_start.json: the quick start with LivePortrait's pack, and with the entries by
which ComfyUI's missing-model dialog offers its files.

    python tools/make_liveportrait_workflow.py

Entries at the top level make the dialog open whenever a file is missing, whatever the widgets say, so only a workflow
that cannot do without the files has them. Entries on a node count while one of its widgets shows the file's name; those
of the bundled workflows are therefore silent until JoyVASA's file is chosen (front end 1.32.9).
"""

from __future__ import annotations

import copy
import json
import sys
import uuid
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from playmate_core.weights.catalogue import workflow_models  # noqa: E402

SOURCE = ROOT / "workflows" / "quick_start.json"
TARGET = ROOT / "workflows" / "liveportrait" / "quick_start.json"
NOTE = """## Quick start with LivePortrait

As the quick start, drawn by LivePortrait's networks. They are not part of the nodes: a dialog names missing files and \
offers their addresses; they belong into `models/liveportrait`; or run, in `custom_nodes/ComfyUI-Playmate`,

`python -m playmate_core weights download liveportrait`

Set **pack** to `bundled` to draw without them. Everything else is as in *quick_start*."""


def with_liveportrait(graph: dict) -> dict:
    """A bundled workflow, changed to draw with LivePortrait."""
    graph = copy.deepcopy(graph)
    graph["id"] = str(uuid.uuid5(uuid.NAMESPACE_URL, f"{graph['id']}/liveportrait"))
    graph["models"] = workflow_models("liveportrait")
    for node in graph["nodes"]:
        if node["type"] == "PlaymateLoadModels":
            node["widgets_values"][0] = "liveportrait"
        elif node["type"] == "MarkdownNote":
            node["widgets_values"] = [NOTE]
    return graph


def main() -> None:
    graph = json.loads(SOURCE.read_text(encoding="utf-8"))
    TARGET.parent.mkdir(exist_ok=True)
    TARGET.write_text(json.dumps(with_liveportrait(graph), indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
