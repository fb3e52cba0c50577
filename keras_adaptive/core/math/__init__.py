"""Arithmetic: dtypes, norms, rounding."""
