"""Writes workflows/dub_film.json and its form for the API: a film that speaks with another voice.

    python -m laboratory.samples.dub_workflow

Its film and its voice are made by ``talking_film``.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from .. import ROOT
from .dialogue_workflow import save

NAME, FILM, VOICE = "dub_film", "talk.mp4", "new_voice.wav"
NOTE = f"""## Dub a film

Existing footage speaks with another voice. Lips and jaw follow the new sound; head, eyes and everything else stay the \
film's own.

1. **Load Video** and **Load Audio**: for a first try press *choose file to upload* and take `{FILM}` and `{VOICE}` \
from `custom_nodes/ComfyUI-Playmate/workflows/inputs`.
2. Press **Run**. The video appears in *Save Video* and in ComfyUI's `output/video` folder.

**Render Video**: **scope** `face` also brings the new voice's brows and eyes, `all` its head movement; \
**film_length** says what happens where the voice is longer than the film."""

GROUPS = (("1  Models, film and voice", (20, 30, 440, 960)), ("2  Prepare", (540, 30, 370, 960)),
          ("3  Perform", (990, 30, 370, 960)), ("4  Draw and save", (1440, 30, 880, 960)))


def nodes() -> list[dict]:
    """Every node, as ``dialogue_workflow.nodes`` describes them."""
    def node(number, kind, place, size, widgets=None, wires=None, outputs=()):
        return {"id": number, "type": kind, "pos": list(place), "size": list(size), "widgets": widgets or {},
                "wires": wires or {}, "outputs": outputs}

    return [
        node(1, "PlaymateLoadModels", (40, 110), (400, 154),
             {"pack": "bundled", "device": "auto", "motion_model": "bundled"},
             outputs=(("models", "PLAYMATE_MODELS"),)),
        node(2, "LoadVideo", (40, 350), (400, 400), {"file": FILM, None: "image"}, outputs=(("VIDEO", "VIDEO"),)),
        node(3, "LoadAudio", (40, 810), (400, 140), {"audio": VOICE, None: None, "": None},
             outputs=(("AUDIO", "AUDIO"),)),
        node(4, "MarkdownNote", (20, -350), (890, 330), {None: NOTE}),
        node(5, "PlaymateExtractFilm", (560, 110), (330, 270), {"face": "largest", "face_index": 0, "fps": 25},
             {"models": (1, 0), "video": (2, 0)},
             (("appearance", "PLAYMATE_APPEARANCE"), ("motion", "PLAYMATE_MOTION"), ("fps", "FLOAT"),
              ("audio", "AUDIO"))),
        node(6, "PlaymateAudioEncoder", (560, 780), (330, 80), {}, {"models": (1, 0), "audio": (3, 0)},
             (("speech", "PLAYMATE_SPEECH"),)),
        node(7, "PlaymateMotionSampler", (1010, 110), (330, 320),
             {"seed": 7, None: "fixed", "steps": 10, "scheduler": "dpmsolver++", "audio_guidance": 0,
              "head_motion": 1, "fps": 25, "emotion_guidance": 0},
             {"models": (1, 0), "speech": (6, 0), "appearance": (5, 0), "fps": (5, 2)},
             (("motion", "PLAYMATE_MOTION"),)),
        node(8, "PlaymateRenderVideo", (1460, 110), (340, 330),
             {"crf": 16, "batch_size": 0, "size": 2048, "length": "motion", "scope": "mouth", "film_length": "hold"},
             {"models": (1, 0), "appearance": (5, 0), "motion": (7, 0), "audio": (3, 0)}, (("video", "VIDEO"),)),
        node(9, "SaveVideo", (1860, 110), (440, 560),
             {"filename_prefix": "video/Playmate_dub_film", "format": "auto", "codec": "auto"}, {"video": (8, 0)}),
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=ROOT / "workflows")
    save(parser.parse_args().out, NAME, nodes(), GROUPS)


if __name__ == "__main__":
    main()
