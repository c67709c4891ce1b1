"""The workflows that ship, held against the nodes' schemas: no server needed."""

import json
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
FOLDER = ROOT / "workflows"
NAMES = sorted(path.stem for path in FOLDER.glob("*.json"))
SCHEMAS = json.loads((Path(__file__).parent / "data" / "node_schemas.json").read_text(encoding="utf-8"))
CORE = {  # node: widgets (as saved by the front end), inputs with wires, outputs
    "LoadImage": (["image", None], {}, ["IMAGE", "MASK"]),
    "LoadAudio": (["audio", None, None], {}, ["AUDIO"]),
    "LoadVideo": (["file", None], {}, ["VIDEO"]),
    "SaveVideo": (["filename_prefix", "format", "codec"], {"video": "VIDEO"}, []),
    "MarkdownNote": ([None], {}, []),
}
SAMPLES = (".jpg", ".png", ".wav", ".mp4", ".safetensors")
WIDGETS = ("INT", "FLOAT", "STRING", "BOOLEAN", "COMBO")


def ui(name):
    return json.loads((FOLDER / f"{name}.json").read_text(encoding="utf-8"))


def api(name):
    return json.loads((FOLDER / "api" / f"{name}.json").read_text(encoding="utf-8"))


def widgets(kind):
    """Names of the saved widget values in order; None for those that only the front end knows."""
    if kind in CORE:
        return CORE[kind][0]
    names = []
    for key, spec in SCHEMAS[kind]["inputs"].items():
        if spec["type"] in WIDGETS:
            names.append(key)
            if key == "seed":
                names.append(None)  # control after generate
    return names


def saved(node):
    """(name, value) of the saved widgets. Workflows from before a widget was appended lack it: it must be optional."""
    names, values = widgets(node["type"]), node.get("widgets_values", [])
    assert len(values) <= len(names), node["type"]
    for name in names[len(values):]:
        assert SCHEMAS[node["type"]]["inputs"][name]["kind"] == "optional", (node["type"], name)
    return list(zip(names, values, strict=False))


def outputs(kind):
    return CORE[kind][2] if kind in CORE else [type_ for _, type_ in SCHEMAS[kind]["outputs"]]


def test_there_are_those_that_were_promised():
    assert {"quick_start", "splice", "directing", "pose_from_video", "splice_video", "dub_film",
            "dialogue", "transparent_presenter"} <= set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_widgets_fit_their_nodes(name):
    for node in ui(name)["nodes"]:
        for key, value in saved(node):
            spec = SCHEMAS.get(node["type"], {}).get("inputs", {}).get(key)
            if spec is None:
                continue
            if "options" in spec:
                assert value in spec["options"], (node["type"], key)
            if "min" in spec:
                assert spec["min"] <= value <= spec["max"], (node["type"], key)


@pytest.mark.parametrize("name", NAMES)
def test_links_join_what_fits(name):
    graph = ui(name)
    nodes = {node["id"]: node for node in graph["nodes"]}
    for link, source, slot, target, place, kind in graph["links"]:
        assert outputs(nodes[source]["type"])[slot] == kind
        assert link in nodes[source]["outputs"][slot]["links"]
        entry = nodes[target]["inputs"][place]
        assert entry["link"] == link and entry["type"] == kind
        wanted = CORE[nodes[target]["type"]][1] if nodes[target]["type"] in CORE else \
            {key: spec["type"] for key, spec in SCHEMAS[nodes[target]["type"]]["inputs"].items()}
        assert wanted[entry["name"]] == kind
    for node in graph["nodes"]:
        linked = {entry["name"] for entry in node.get("inputs", []) if entry["link"] is not None}
        needed = {key for key, spec in SCHEMAS.get(node["type"], {}).get("inputs", {}).items()
                  if spec["kind"] == "required" and spec["type"] not in WIDGETS}
        assert needed <= linked, node["type"]


@pytest.mark.parametrize("name", NAMES)
def test_nodes_lie_side_by_side_inside_groups(name):
    graph = ui(name)
    boxes = []
    for node in graph["nodes"]:
        (x, y), (width, height) = node["pos"], node["size"]
        boxes.append((x, y - 30, x + width, y + height))  # the title stands above pos
    for index, a in enumerate(boxes):
        for b in boxes[:index]:
            assert a[2] <= b[0] or b[2] <= a[0] or a[3] <= b[1] or b[3] <= a[1], "two nodes overlap"
    groups = [(x, y, x + w, y + h) for x, y, w, h in (group["bounding"] for group in graph["groups"])]
    for node, box in zip(graph["nodes"], boxes, strict=True):
        if node["type"] != "MarkdownNote":
            assert any(g[0] <= box[0] and g[1] <= box[1] and box[2] <= g[2] and box[3] <= g[3] for g in groups), \
                node["type"]
    assert any(node["type"] == "MarkdownNote" for node in graph["nodes"])


def api_of(graph):
    """What the front end makes of a saved workflow when it is queued: {id: class and inputs}."""
    links = {link[0]: link for link in graph["links"]}
    prompt = {}
    for node in graph["nodes"]:
        if node["type"] != "MarkdownNote":
            inputs = {k: v for k, v in saved(node) if k}
            for entry in node.get("inputs", []):
                if entry["link"] is not None:
                    _, source, slot, *_ = links[entry["link"]]
                    inputs[entry["name"]] = [str(source), slot]
            prompt[str(node["id"])] = {"class_type": node["type"], "inputs": inputs}
    return prompt


@pytest.mark.parametrize("name", NAMES)
def test_api_form_says_the_same(name):
    prompt = {key: {"class_type": node["class_type"], "inputs": node["inputs"]} for key, node in api(name).items()}
    assert prompt == api_of(ui(name))


@pytest.mark.parametrize("name", NAMES)
def test_each_has_a_picture_and_its_inputs_ship_with_a_licence(name):
    assert (FOLDER / f"{name}.png").read_bytes().startswith(b"\x89PNG")
    licences = (FOLDER / "inputs" / "LICENSES.md").read_text(encoding="utf-8")
    for node in api(name).values():
        for value in node["inputs"].values():
            if isinstance(value, str) and value.split(" [")[0].endswith(SAMPLES):
                file = value.split(" [")[0]
                assert (FOLDER / "inputs" / file).is_file() and f"`{file}`" in licences


def test_sample_inputs_stay_small():
    sizes = {path.name: path.stat().st_size for path in (FOLDER / "inputs").iterdir()}
    assert max(sizes.values()) <= 300_000
