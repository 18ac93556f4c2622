"""torchneupy against named rivals, in one run: ``python -m benchmarks``."""
