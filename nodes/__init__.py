"""The nodes, one file a stage of the way from portrait and voice to video. The only code that imports ComfyUI."""

from __future__ import annotations

from comfy_api.latest import ComfyExtension, io

from .add_to_cast import AddToCast
from .audio_encoder import AudioEncoder
from .blend_motion import BlendMotion
from .blendshape_sliders import BlendshapeSliders
from .concatenate_motion import ConcatenateMotion
from .emotion_control import EmotionControl
from .expression_edit import ExpressionEdit
from .extract_appearance import ExtractAppearance
from .extract_film import ExtractFilm
from .eyes import Eyes
from .folders import register_folders
from .listen import Listen
from .liveportrait_options import LivePortraitOptions
from .load_models import LoadModels
from .load_motion import LoadMotion
from .loop_motion import LoopMotion
from .motion_from_blendshapes import MotionFromBlendshapes
from .motion_from_video import MotionFromVideo
from .motion_sampler import MotionSampler
from .motion_to_blendshapes import MotionToBlendshapes
from .pose_override import PoseOverride
from .preview_motion import PreviewMotion
from .region_mask import RegionMask
from .render_frames import RenderFrames
from .render_video import RenderVideo
from .retime_motion import RetimeMotion
from .save_motion import SaveMotion
from .smooth_motion import SmoothMotion
from .split_speakers import SplitSpeakers

NODES: list[type[io.ComfyNode]] = [
    LoadModels,
    ExtractAppearance,
    ExtractFilm,
    AudioEncoder,
    EmotionControl,
    MotionSampler,
    PoseOverride,
    ExpressionEdit,
    BlendshapeSliders,
    Eyes,
    BlendMotion,
    RegionMask,
    ConcatenateMotion,
    RetimeMotion,
    LoopMotion,
    SmoothMotion,
    MotionFromVideo,
    MotionFromBlendshapes,
    MotionToBlendshapes,
    LoadMotion,
    SaveMotion,
    PreviewMotion,
    LivePortraitOptions,
    SplitSpeakers,
    Listen,
    AddToCast,
    RenderFrames,
    RenderVideo,
]


class PlaymateExtension(ComfyExtension):
    async def get_node_list(self) -> list[type[io.ComfyNode]]:
        register_folders()
        return NODES
