"""The training corpus of the bundled motion model: speech, and what a face does while it is spoken.

Sound comes from text-to-speech engines that tell their phone times and from real speakers' tracks; lips come from a
teacher fitted on the tracks and corrected by the phones; heads, eyes and brows from the tracks' statistics.
:mod:`.build` is the entry point; everything here is needed for training only.
"""
