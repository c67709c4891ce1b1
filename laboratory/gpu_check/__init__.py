"""One command for a machine with an NVIDIA card and nothing else: is everything right on it, and how fast is it?

    python -m laboratory.gpu_check [--out DIR] [--fixtures DIR] [--device cuda] [--rehearse]

It needs no network and no PyAV, goes on after a failure, and ends by itself before eight minutes. A short table is
printed last; the folder holds the whole table (table.md), everything as JSON (results.json), the log with every
traceback (log.txt) and where the time goes (profile.md). Exit code 0 if nothing failed.
"""
