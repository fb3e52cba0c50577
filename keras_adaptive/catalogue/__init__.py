"""The list of optimizers and a page for each: `python -m keras_adaptive list` and `show`."""
