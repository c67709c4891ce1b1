"""Draws motion on a photograph, painting or cartoon with nothing but its landmarks."""

from .renderer import LandmarkRenderer

__all__ = ["LandmarkRenderer"]
