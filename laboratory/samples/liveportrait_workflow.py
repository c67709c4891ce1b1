"""Writes workflows/liveportrait: the bundled workflows with LivePortrait's pack, and with the entries by which
ComfyUI's missing-model dialog offers its files; and the quick start for animals.

    python -m laboratory.samples.liveportrait_workflow

Entries at the top level make the dialog open whenever a file is missing, whatever the widgets say, so only workflows
that cannot do without the files have them. Entries on a node count while one of its widgets shows the file's name;
those of the bundled workflows are therefore silent until JoyVASA's file is chosen (front end 1.32.9).
"""

from __future__ import annotations

import argparse
import copy
import json
import uuid
from pathlib import Path

from playmate_core.weights.catalogue import workflow_models

from .. import ROOT

SOURCES = ROOT / "workflows"
TARGETS = SOURCES / "liveportrait"
VARIANTS = {
    "quick_start": ("quick_start", "liveportrait"),
    "directing": ("directing", "liveportrait"),
    "pose_from_video": ("pose_from_video", "liveportrait"),
    "splice": ("splice", "liveportrait"),
    "splice_video": ("splice_video", "liveportrait"),
    "dub_film": ("dub_film", "liveportrait"),
    "dialogue": ("dialogue", "liveportrait"),
    "transparent_presenter": ("transparent_presenter", "liveportrait"),
    "quick_start_animal": ("quick_start", "liveportrait-animal"),
}
"""Name: the bundled workflow that it is, and its pack."""
NOTE = """## {title} with LivePortrait

As *{source}*, drawn by LivePortrait's networks. They are not part of the nodes: a dialog names missing files and \
offers their addresses; they belong into `models/liveportrait`; or run, in `custom_nodes/ComfyUI-Playmate`,

`python -m playmate_core weights download liveportrait`

Set **pack** to `bundled` to draw without them. Everything else is as in *{source}*."""
ANIMAL = """## Quick start with an animal

As *{source}*, drawn by the networks that LivePortrait's authors trained on animals. They are not part of the nodes: a \
dialog names missing files and offers their addresses; they belong into `models/liveportrait/animal`; or run, in \
`custom_nodes/ComfyUI-Playmate`,

`python -m playmate_core weights download liveportrait-animal`

Choose the animal's picture in *Load Image*. No detector for animals is used: say in *Extract Appearance* where the \
face is, **face_points** `x y; x y; x y; x y; x y` (eyes, nose, corners of the mouth, in pixels), or **face_box**."""


def variant(graph: dict, source: str, pack: str) -> dict:
    """A bundled workflow, changed to draw with one of LivePortrait's packs."""
    graph = copy.deepcopy(graph)
    graph["id"] = str(uuid.uuid5(uuid.NAMESPACE_URL, f"{graph['id']}/{pack}"))
    graph["models"] = workflow_models(pack)
    note = ANIMAL if pack == "liveportrait-animal" else NOTE
    for node in graph["nodes"]:
        if node["type"] == "PlaymateLoadModels":
            node["widgets_values"][0] = pack
        elif node["type"] == "MarkdownNote":
            title = node["widgets_values"][0].splitlines()[0].removeprefix("## ")
            node["widgets_values"] = [note.format(title=title, source=source)]
    return graph


def read(path: Path) -> dict:
    return json.loads(path.read_text(encoding="utf-8"))


def main() -> None:
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    TARGETS.mkdir(exist_ok=True)
    for name, (source, pack) in VARIANTS.items():
        graph = variant(read(SOURCES / f"{source}.json"), source, pack)
        (TARGETS / f"{name}.json").write_text(json.dumps(graph, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
