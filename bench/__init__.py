"""Benchmarks: the hot path (`micro`), and the whole system beside a plain relay and the kernel's floor."""
