"""Speed and memory, with the machine they were measured on. Run ``python -m laboratory.benchmarks``."""
