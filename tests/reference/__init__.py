"""What the optimizers are compared with: NumPy float64 twins, written from the papers' equations, and other libraries."""
