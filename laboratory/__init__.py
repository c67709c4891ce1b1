"""How the weights were made and proven. Imports the product; nothing that ships imports it."""

from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
"""The checkout."""
