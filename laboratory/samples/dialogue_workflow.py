"""Writes workflows/dialogue.json and its form for the API: two people of one picture, one recording of both.

    python -m laboratory.samples.dialogue_workflow two_people.jpg dialogue.wav "0 1; 3.2 2"

The picture and the recording are named as they lie in workflows/inputs, where both must be with their licence.
"""

from __future__ import annotations

import argparse
import json
import uuid
from pathlib import Path

from .. import ROOT

NAME = "dialogue"
NOTE = """## A dialogue

Two people in one picture speak in turn; who does not speak listens, with the eyes on the other.

1. **Load Image** and **Load Audio**: for a first try press *choose file to upload* and take `{image}` and `{audio}` \
from `custom_nodes/ComfyUI-Playmate/workflows/inputs`.
2. **Split Speakers**: `turns` says who speaks from when. Empty it for a stereo recording with one speaker a channel.
3. Press **Run**. The video appears in *Save Video* and in ComfyUI's `output/video` folder.

A third person: one more *Extract Appearance* (face = index), *Listen* and *Add To Cast*."""

TITLES = {"LoadImage": "Load Image", "LoadAudio": "Load Audio", "LoadVideo": "Load Video",
          "SaveVideo": "Save Video"}
COLOURS = ("#3f789e", "#3f7e5a", "#6f5a8e", "#7a6a4e", "#8a6a3a")
GROUPS = (("1  Models, picture and sound", (20, 30, 440, 960)), ("2  Who, and who says what", (530, 30, 390, 960)),
          ("3  Perform", (990, 30, 390, 1040)), ("4  Listen to each other", (1450, 30, 390, 960)),
          ("5  Draw", (1910, 30, 880, 960)))


def nodes(image: str, audio: str, turns: str) -> list[dict]:
    """Every node: its class, place, size, widgets by name, wires in {input: (node, output)} and outputs."""
    def node(number, kind, place, size, widgets=None, wires=None, outputs=(), **more):
        # Widgets that only the front end knows have no name (None, "").
        return {"id": number, "type": kind, "pos": list(place), "size": list(size), "widgets": widgets or {},
                "wires": wires or {}, "outputs": outputs, **more}

    appearance, speech, motion = (("appearance", "PLAYMATE_APPEARANCE"),), (("speech", "PLAYMATE_SPEECH"),), \
        (("motion", "PLAYMATE_MOTION"),)
    found = [
        node(1, "PlaymateLoadModels", (40, 110), (400, 154), {"pack": "bundled", "device": "auto",
                                                              "motion_model": "bundled"},
             outputs=(("models", "PLAYMATE_MODELS"),)),
        node(2, "LoadImage", (40, 350), (400, 400), {"image": image, None: "image"},
             outputs=(("IMAGE", "IMAGE"), ("MASK", "MASK"))),
        node(3, "LoadAudio", (40, 810), (400, 140), {"audio": audio, None: None, "": None},
             outputs=(("AUDIO", "AUDIO"),)),
        node(4, "MarkdownNote", (20, -270), (890, 250), {None: NOTE.format(image=image, audio=audio)}),
        node(7, "PlaymateSplitSpeakers", (550, 730), (350, 220), {"turns": turns}, {"audio": (3, 0)},
             (("speaker_1", "AUDIO"), ("speaker_2", "AUDIO"))),
    ]
    for side, face in enumerate(("left", "right")):
        found += [
            node(5 + side, "PlaymateExtractAppearance", (550, 110 + 310 * side), (350, 270),
                 {"face": face, "face_index": 0, "image_index": 0}, {"models": (1, 0), "image": (2, 0)}, appearance),
            node(8 + side, "PlaymateAudioEncoder", (1010, 110 + 120 * side), (350, 80), {},
                 {"models": (1, 0), "audio": (7, side)}, speech),
            node(10 + side, "PlaymateMotionSampler", (1010, 350 + 350 * side), (350, 300),
                 {"seed": 7 + side, None: "fixed", "steps": 10, "scheduler": "dpmsolver++", "audio_guidance": 0,
                  "head_motion": 1, "fps": 25, "emotion_guidance": 0},
                 {"models": (1, 0), "speech": (8 + side, 0), "appearance": (5 + side, 0)}, motion),
            node(12 + side, "PlaymateListen", (1470, 110 + 310 * side), (350, 270), {"seed": 3 + side, None: "fixed"},
                 {"appearance": (5 + side, 0), "speaker": (6 - side, 0), "speech": (9 - side, 0),
                  "motion": (10 + side, 0), "own_speech": (8 + side, 0)}, motion),
        ]
    found += [
        node(14, "PlaymateAddToCast", (1470, 730), (350, 90), {}, {"appearance": (5, 0), "motion": (12, 0)},
             (("cast", "PLAYMATE_CAST"),)),
        node(15, "PlaymateRenderVideo", (1930, 110), (340, 260), {"crf": 16, "batch_size": 0},
             {"models": (1, 0), "appearance": (6, 0), "motion": (13, 0), "audio": (3, 0), "cast": (14, 0)},
             (("video", "VIDEO"),)),
        node(16, "SaveVideo", (2330, 110), (440, 560),
             {"filename_prefix": "video/Playmate_dialogue", "format": "auto", "codec": "auto"}, {"video": (15, 0)}),
    ]
    return sorted(found, key=lambda one: one["id"])


def workflow(parts: list[dict], name: str = NAME, boxes=GROUPS) -> dict:
    """The form that the front end saves; ``boxes``: title and (x, y, width, height) of its groups."""
    by_id = {part["id"]: part for part in parts}
    links: list[list] = []
    saved = []
    for order, part in enumerate(parts):
        inputs = []
        for place, (wire, (source, slot)) in enumerate(part["wires"].items()):
            kind = by_id[source]["outputs"][slot][1]
            links.append([len(links) + 1, source, slot, part["id"], place, kind])
            widget = {"widget": {"name": wire}} if wire in part["widgets"] else {}
            inputs.append({"name": wire, "type": kind, **widget, "link": len(links)})
        look = {"title": "Read me", "properties": {}, "color": "#432", "bgcolor": "#653"} \
            if part["type"] == "MarkdownNote" else {"properties": {"Node name for S&R": part["type"]}}
        saved.append({"id": part["id"], "type": part["type"], "pos": part["pos"], "size": part["size"], "flags": {},
                      "order": order, "mode": 0, "inputs": inputs, "outputs": [
                          {"name": output, "type": kind, "links": []} for output, kind in part["outputs"]],
                      **look, "widgets_values": list(part["widgets"].values())})
    places = {one["id"]: one for one in saved}
    for number, source, slot, *_ in links:
        places[source]["outputs"][slot]["links"].append(number)
    groups = [{"id": number + 1, "title": title, "bounding": list(box), "color": COLOURS[number], "font_size": 24,
               "flags": {}} for number, (title, box) in enumerate(boxes)]
    return {"id": str(uuid.uuid5(uuid.NAMESPACE_URL, f"playmate/{name}")), "revision": 0,
            "last_node_id": parts[-1]["id"], "last_link_id": len(links), "nodes": saved, "links": links,
            "groups": groups, "config": {}, "extra": {"workflowRendererVersion": "LG"}, "version": 0.4}


def prompt(parts: list[dict], titles: dict[str, str]) -> dict:
    """The form that ComfyUI's API takes."""
    return {str(part["id"]): {
        "inputs": {**{name: value for name, value in part["widgets"].items() if name},
                   **{name: [str(source), slot] for name, (source, slot) in part["wires"].items()}},
        "class_type": part["type"], "_meta": {"title": titles.get(part["type"], part["type"])}}
        for part in parts if part["type"] != "MarkdownNote"}


def save(folder: Path, name: str, parts: list[dict], boxes) -> None:
    """Writes both forms of a workflow below ``folder``."""
    schemas = json.loads((ROOT / "tests" / "data" / "node_schemas.json").read_text(encoding="utf-8"))
    titles = {**TITLES, **{kind: schema["display_name"] for kind, schema in schemas.items()}}
    (folder / "api").mkdir(parents=True, exist_ok=True)
    for path, content in ((folder / f"{name}.json", workflow(parts, name, boxes)),
                          (folder / "api" / f"{name}.json", prompt(parts, titles))):
        path.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("image", help="file in workflows/inputs with two people")
    parser.add_argument("audio", help="file in workflows/inputs with their conversation")
    parser.add_argument("turns", help='who speaks when: "0 1; 3.2 2"; empty for stereo')
    parser.add_argument("--out", type=Path, default=ROOT / "workflows")
    args = parser.parse_args()
    save(args.out, NAME, nodes(args.image, args.audio, args.turns), GROUPS)


if __name__ == "__main__":
    main()
