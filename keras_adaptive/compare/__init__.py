"""`python -m keras_adaptive compare`: an honest comparison of optimizers on small problems."""
