"""Prompts for a real ComfyUI, and what its answers must look like."""

import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
WORKFLOWS = ROOT / "workflows"


def ended_well(history):
    assert history["status"]["status_str"] == "success", history["status"]["messages"][-1]
    return history["outputs"]


def sentence(history) -> str:
    """The one sentence that a user sees."""
    assert history["status"]["status_str"] == "error"
    event, data = history["status"]["messages"][-1]
    assert event == "execution_error"
    assert data["exception_type"].endswith("PlaymateError"), data
    text = data["exception_message"].strip()
    assert "\n" not in text and text.endswith(".") and 20 < len(text) < 400
    return text


def refusals(comfy, prompt) -> str:
    """What the server says when it does not take a prompt."""
    status, answer = comfy.post("/prompt", {"prompt": prompt})
    assert status == 400, answer
    return " ".join(error["details"] for node in answer["node_errors"].values() for error in node["errors"])


def forget(comfy):
    """Empties the server's cache of results, so that the next run computes everything."""
    comfy.post("/free", {"free_memory": True})
    time.sleep(1.5)


def video_of(comfy, outputs) -> Path:
    files = [comfy.base / entry["type"] / entry["subfolder"] / entry["filename"]
             for output in outputs.values() for entry in output.get("images", []) if entry["filename"].endswith(".mp4")]
    assert len(files) == 1
    return files[0]


def check_video(path: Path, seconds: float, fps: float = 25.0, size: tuple[int, int] = (512, 512),
                sound_seconds: float | None = None):
    """It plays from beginning to end, and picture and sound last as long as the voice, to a frame."""
    spoken = seconds if sound_seconds is None else sound_seconds
    import av

    with av.open(str(path)) as container:
        picture, sound = container.streams.video[0], container.streams.audio[0]
        assert (picture.width, picture.height) == size and picture.codec_context.pix_fmt == "yuv420p"
        frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
        assert len(frames) == round(seconds * fps)
        assert abs(float(picture.duration * picture.time_base) - seconds) <= 1 / fps
        assert abs(float(sound.duration * sound.time_base) - spoken) <= 1 / fps
        container.seek(0)
        heard = sum(frame.samples for frame in container.decode(audio=0)) / sound.rate
        assert abs(heard - spoken) <= 0.1  # AAC works in blocks
    middle = frames[len(frames) // 2].astype(float)
    assert 20 < middle.mean() < 235
    assert max(abs(frame.astype(float) - middle).mean() for frame in frames[::10]) > 0.1, "nothing moves"


def emotion(**changes):
    return {"emotion": "neutral", "strength": 1.0, "start": 0.0, "end": 0.0, "fade_in": 0.5, "fade_out": 0.5,
            "schedule": "", **changes}


def models():
    return {"class_type": "PlaymateLoadModels", "inputs": {"pack": "bundled", "device": "auto",
                                                           "motion_model": "bundled"}}


def preview_of_sample(width=320):
    return {"m": models(),
            "l": {"class_type": "PlaymateLoadMotion", "inputs": {"file": "look_around.safetensors [example]"}},
            "p": {"class_type": "PlaymatePreviewMotion", "inputs": {"models": ["m", 0], "motion": ["l", 0],
                                                                    "width": width, "height": 256}}}


def appearance_of(image, extra=None, **inputs):
    """A prompt that extracts the appearance of ``image``'s output and draws two frames of it."""
    return {**(extra or {}), "m": models(),
            "a": {"class_type": "PlaymateExtractAppearance",
                  "inputs": {"models": ["m", 0], "image": image, "face": "largest", "face_index": 0, "image_index": 0,
                             **inputs}},
            "l": {"class_type": "PlaymateLoadMotion", "inputs": {"file": "short.safetensors"}},
            "f": {"class_type": "PlaymateRenderFrames", "inputs": {"models": ["m", 0], "appearance": ["a", 0],
                                                                   "motion": ["l", 0], "batch_size": 8}},
            "s": {"class_type": "PreviewImage", "inputs": {"images": ["g", 0]}},
            "g": {"class_type": "ImageFromBatch", "inputs": {"image": ["f", 0], "batch_index": 1, "length": 2}}}


PORTRAIT = {"i": {"class_type": "LoadImage", "inputs": {"image": "portrait.jpg"}}}
EMPTY = {"i": {"class_type": "EmptyImage", "inputs": {"width": 256, "height": 256, "batch_size": 1, "color": 8421504}}}


def kept(motion, name):
    return {"class_type": "PlaymateSaveMotion", "inputs": {"motion": motion, "filename_prefix": f"motions/{name}",
                                                           "format": "safetensors"}}


def without_video(prompt):
    return {key: node for key, node in prompt.items() if node["class_type"] not in {"PlaymateRenderVideo", "SaveVideo"}}
