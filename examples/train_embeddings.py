"""Trains word embeddings with Keras's Adam and keras_adaptive's Adam, exact and lazy; compares times and errors.

    python examples/train_embeddings.py
    python examples/train_embeddings.py --rows 300000 --steps 100
    KERAS_BACKEND=jax python examples/train_embeddings.py --strategy mirrored --replicas 2

The task is skip-gram with negative samples on real text, whose frequent words are many times in every batch. The tables
have more rows than the text has words, like tables of hashed ids. On TensorFlow the gradient of an embedding holds only
the rows of a batch. Lazy updates do not change the other rows. For repeated rows, Keras's Adam sums the squares of the
gradients instead of squaring their sum. JAX and torch make dense gradients, so neither happens there. The script prints
two lines for each optimizer, then one line of results, and draws a picture.
"""

import time

import numpy as np
import strategies
from options import Parser, count, picture_file, rate, refuse

OPTIMIZERS = {"keras": "Keras's Adam", "exact": "Adam", "lazy": "Adam, lazy"}
BETA_1, BETA_2 = 0.9, 0.999
CHECKED = 5  # steps that are compared with float64
NEGATIVES, WINDOW = 5, 4  # candidates other than the neighbour, and the largest distance of the neighbour


def network(rows, size):
    """The logits of (word, candidates): which candidates are near the word. Words and candidates have a table each."""
    from keras import Model, backend, initializers, layers, ops

    class Table(layers.Embedding):
        """On TensorFlow Keras's layer may copy the full table after rows of it were updated; this one reads rows."""

        def call(self, ids):
            if backend.backend() != "tensorflow":
                return super().call(ids)
            import tensorflow as tf

            return tf.nn.embedding_lookup(self.embeddings.value, ids)

    word, candidates = layers.Input((), dtype="int32"), layers.Input((None,), dtype="int32")
    words, contexts = (Table(rows, size, initializers.RandomNormal(0.1), name=name) for name in ("words", "contexts"))
    return Model([word, candidates], ops.einsum("bd,bkd->bk", words(word), contexts(candidates)))


def losses(logits):
    """The loss if the first candidate was near the word and the others are negative samples."""
    from keras import ops

    return ops.softplus(-logits[:, 0]) + ops.sum(ops.softplus(logits[:, 1:]), axis=1)


def batches(words, steps, batch_size, negatives, window, seed):
    """Words of the text, each with a neighbour and with words drawn by their frequency to the power 0.75."""
    random = np.random.default_rng(seed)
    often = np.bincount(words) ** 0.75
    drawn = random.choice(len(often), p=often / often.sum(), size=(steps, batch_size, negatives))
    for step in range(steps):
        places = random.integers(window, len(words) - window, size=batch_size)
        near = places + random.integers(1, window + 1, size=batch_size) * random.choice([-1, 1], size=batch_size)
        yield words[places].astype("int32"), np.column_stack([words[near], drawn[step]]).astype("int32")


def optimizer_of(kind, eta):
    """The optimizer, with such a small epsilon that all have the same equation."""
    import keras

    import keras_adaptive

    if kind == "keras":
        return keras.optimizers.Adam(eta, BETA_1, BETA_2, epsilon=1e-14)
    return keras_adaptive.Adam(eta, BETA_1, BETA_2, sparse=kind)


def in_float64(tables, data, eta, lazy):
    """The tables after Adam's steps on these batches, by the equations of the paper in NumPy."""
    tables = [table.astype("float64") for table in tables]
    averages = [(np.zeros_like(table), np.zeros_like(table)) for table in tables]
    for t, (word, candidates) in enumerate(data, 1):
        u, w = tables[0][word], tables[1][candidates]
        slope = 1 / (1 + np.exp(-np.einsum("bd,bkd->bk", u, w)))
        slope[:, 0] -= 1
        slope /= len(word)
        by_place = np.einsum("bk,bkd->bd", slope, w), slope[:, :, np.newaxis] * u[:, np.newaxis]
        for table, (m, v), ids, gradients in zip(tables, averages, (word, candidates), by_place, strict=True):
            g = np.zeros_like(table)
            np.add.at(g, ids, gradients)
            rows = np.unique(ids) if lazy else slice(None)
            m[rows] = BETA_1 * m[rows] + (1 - BETA_1) * g[rows]
            v[rows] = BETA_2 * v[rows] + (1 - BETA_2) * g[rows] ** 2
            m_hat, v_hat = m[rows] / (1 - BETA_1**t), v[rows] / (1 - BETA_2**t)
            table[rows] -= eta * m_hat / np.sqrt(np.where(v_hat > 0, v_hat, 1))
    return tables


def errors_by_count(model, start, data, eta, lazy):
    """For every row in the batches: how often it occurs, and its mean difference from float64, in learning rates."""
    vocabulary = len(start[0])
    ends = [table[:vocabulary] for table in model.get_weights()]
    off = [np.abs(a - b).mean(axis=1) / eta for a, b in zip(ends, in_float64(start, data, eta, lazy), strict=True)]
    counts = [np.bincount(np.concatenate([np.ravel(batch[i]) for batch in data]), minlength=vocabulary) for i in (0, 1)]
    counts, off = np.concatenate(counts), np.concatenate(off)
    return counts[counts > 0], off[counts > 0]


def of_repeated(counts, off):
    """The mean error of the rows that must have been in some batch more than once."""
    return off[counts > CHECKED].mean()


def by_powers_of_two(counts, off):
    """The middle of each class of counts, from one power of two to the next, and the mean error in it."""
    exponents = np.floor(np.log2(counts)).astype(int)
    present = np.unique(exponents)
    return 1.5 * 2.0**present, np.array([off[exponents == each].mean() for each in present])


def trained(kind, devices, words, vocabulary, arguments):
    """The optimizer, the milliseconds of a step, the errors by count, and the last loss."""
    import diverged
    import keras
    import loop

    keras.utils.set_random_seed(arguments.seed)
    data = batches(words, arguments.steps, arguments.batch_size, NEGATIVES, WINDOW, arguments.seed)
    with devices.scope:
        model = network(arguments.rows, arguments.size)
        optimizer = optimizer_of(kind, arguments.learning_rate)
        step = loop.Step(model, optimizer, losses, devices)
    start = [table[:vocabulary] for table in model.get_weights()]
    checked = [next(data) for _ in range(CHECKED)]
    for number, batch in enumerate(checked, start=1):
        diverged.check(step(batch), f"at step {number} of {OPTIMIZERS[kind]}", optimizer)
    lazy = kind == "lazy" and keras.backend.backend() == "tensorflow"
    errors = errors_by_count(model, start, checked, arguments.learning_rate, lazy)
    seconds = []
    for number, batch in enumerate(data, start=CHECKED + 1):
        before = time.perf_counter()
        loss = float(step(batch))
        seconds.append(time.perf_counter() - before)
        diverged.check(loss, f"at step {number} of {OPTIMIZERS[kind]}", optimizer)
    return optimizer, 1000 * np.median(seconds), errors, loss


def draw(path, times, errors, title):
    import report

    with report.picture(path, title, panels=2) as (left, right):
        for kind, name in OPTIMIZERS.items():
            left.bar(name, times[kind])
            marker = {"keras": "o", "exact": "s", "lazy": "x"}[kind]
            right.plot(*by_powers_of_two(*errors[kind]), label=name, marker=marker)
        left.set(title="milliseconds a step")
        right.set(title=f"error of a row after {CHECKED} steps", xscale="log", yscale="log")
        right.set(xlabel="times that it was in the batches", ylabel="learning rates")
        right.legend(frameon=False)


def main():
    parser = Parser(__doc__.split("\n")[0])
    parser.text()
    parser.option("--rows", "N", "rows of each of the two tables", type=count, default=100_000)
    parser.option("--size", "N", "size of an embedding", type=count, default=64)
    parser.option("--batch-size", "N", "words in a step, on all replicas together", type=count, default=1024)
    parser.option("--steps", "N", "updates by each optimizer", type=count, default=200)
    parser.option("--learning-rate", "RATE", "learning rate of all optimizers", type=rate, default=0.01)
    arguments = parser.parse()
    if arguments.steps <= CHECKED:
        refuse(f"--steps must be more than {CHECKED}. Received: {arguments.steps}")
    if arguments.learning_rate == 0:
        refuse("--learning-rate must be above 0 here. Received: 0.0")
    strategies.choose_backend(arguments.strategy, arguments.replicas)

    import keras
    import report
    import text

    devices = strategies.start(arguments)
    words, vocabulary = text.load_words(arguments.text, arguments.rows)
    if len(words) <= 2 * WINDOW:
        refuse(f"--text must have more than {2 * WINDOW} words. Received: {len(words)}")
    if arguments.batch_size > len(words):
        refuse(f"--batch-size must be at most {len(words)} here. Received: {arguments.batch_size}")
    if devices.is_chief:
        sparse = keras.backend.backend() == "tensorflow"
        kind = "hold the rows of a batch" if sparse else "are dense, as all are on this backend"
        print(f"{len(words)} words, {len(vocabulary)} different; gradients of {arguments.rows} rows {kind}")

    times, errors = {}, {}
    begin = time.perf_counter()
    for kind, name in OPTIMIZERS.items():
        optimizer, times[kind], errors[kind], loss = trained(kind, devices, words, len(vocabulary), arguments)
        if devices.is_chief:
            print(f"{name}: {times[kind]:.1f} ms a step, loss {loss:.3f}; after {CHECKED} steps a row that repeats")
            print(f"    is off by {of_repeated(*errors[kind]):.1e} learning rates in the mean", flush=True)
    seconds = time.perf_counter() - begin

    if not devices.is_chief:
        return
    title = f"Adam on tables of {arguments.rows} rows, {keras.backend.backend()}"
    picture = picture_file(arguments)
    draw(picture, times, errors, title)
    print(f"times and errors: {picture}")
    facts = {f"{kind}_ms": f"{times[kind]:.1f}" for kind in OPTIMIZERS}
    facts |= {f"{kind}_error": f"{of_repeated(*errors[kind]):.1e}" for kind in OPTIMIZERS}
    report.print_result(optimizer, devices, seconds, **facts)


if __name__ == "__main__":
    main()
