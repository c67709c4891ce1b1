"""Playmate: one portrait and one voice become a talking, directable head.

The folders follow the data: ``face`` and ``speech`` come in, ``diffusion`` makes motion,
``render`` draws it; ``motion`` is the common ground and ``pipeline`` puts them together.
Nothing here imports ComfyUI, and importing this package loads no heavy library.
"""

__version__ = "0.1.0"
