"""The step, written once for all algorithms."""
