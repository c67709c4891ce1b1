"""Emotions: labels, plans over time, curves, and what a label does to a face."""
