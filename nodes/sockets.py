"""What runs along the wires between the nodes."""

from __future__ import annotations

from comfy_api.latest import io

CATEGORY = "Playmate"

Models = io.Custom("PLAYMATE_MODELS")
"""``pipeline.Models``"""
Appearance = io.Custom("PLAYMATE_APPEARANCE")
"""``render.base.Appearance``"""
Speech = io.Custom("PLAYMATE_SPEECH")
"""``motion.features.SpeechFeatures``"""
Motion = io.Custom("PLAYMATE_MOTION")
"""``motion.types.Motion``"""
Emotion = io.Custom("PLAYMATE_EMOTION")
"""``emotion.plan.EmotionPlan``, or a schedule's text: it has no length until it meets a voice."""
