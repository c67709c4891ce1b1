"""LivePortrait's networks behind the Renderer protocol (reference: SPEC.md of LivePortrait, by section).

    networks = load_networks(folder)
    renderer = LivePortraitRenderer(networks, bridge, device="cuda")

One file a network: appearance (F), motion_extractor (M), warping (W), generator (G), stitching (S).
"""

from .checkpoint import Networks, load_networks
from .renderer import LivePortraitRenderer

__all__ = ["LivePortraitRenderer", "Networks", "load_networks"]
