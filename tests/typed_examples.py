"""What type checkers report and what they accept: `.ci/run` runs mypy and basedpyright on this file.

Each line that is wrong says so to both, and both report a remark that is not needed.
"""

import keras

from keras_adaptive import Adam, AdamW, Group, Lamb, Muon

# Right.
Adam()
Adam(0.001, 0.9, 0.999, 1e-8)
Adam(learning_rate=keras.optimizers.schedules.CosineDecay(0.1, 100), clipnorm=1.0, weight_decay=None)
Adam(lambda: 0.1, groups=[Group("bias$", weight_decay=0.0)], loss_scale_factor="dynamic")
AdamW(1e-3, 0.004).describe()
Muon(0.02, momentum=0.95, companion="auto")

# Wrong.
Adam(clipnrom=1)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
Adam(beta_1="x")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
Adam(amsgrad=True)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
Adam(sparse="rows")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
Muon(0.02, 0.95)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
Lamb(debias=True)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
