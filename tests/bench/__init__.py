"""Benchmarks: ratios to plain FastStream and CPU per message, never a lone rate; run by hand, not by ``make test``."""
