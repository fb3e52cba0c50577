"""Teaches a small network to balance a pole, by reinforcement learning in a custom loop.

    python examples/train_cartpole.py
    python examples/train_cartpole.py --optimizer RMSprop --learning-rate 0.01 --seed 2
    KERAS_BACKEND=jax python examples/train_cartpole.py --strategy mirrored --replicas 2

It uses the policy gradient (REINFORCE). The network plays episodes of gymnasium's CartPole; the better the return after
an action, compared with the average, the more likely the action becomes. The gradient and `optimizer.apply` are in
loop.py. The script prints progress every ten updates, then one line of results, and draws the return by update.
"""

import time

import numpy as np
import strategies
from options import Parser, count, find_optimizer, new_optimizer, picture_file

LONGEST = 500  # steps; a longer episode is cut off, and its return is the best possible
DISCOUNT = 0.99


def network():
    """The network from the four numbers of pole and cart to the logits of a push to the left and to the right."""
    from keras import Sequential, layers

    return Sequential([layers.Input((4,)), layers.Dense(32, activation="tanh"), layers.Dense(2)])


def logits(weights, observations):
    """The same in NumPy: for one step of a few poles, the call of a device would take longer than the computation."""
    kernel, bias, output_kernel, output_bias = weights
    with np.errstate(all="ignore"):  # A training that diverges is ended for its loss.
        return np.tanh(observations @ kernel + bias) @ output_kernel + output_bias


def losses(outputs, actions, advantages):
    """Their gradient is the policy gradient."""
    from keras import ops

    return advantages * ops.sparse_categorical_crossentropy(actions, outputs, from_logits=True)


def poles(number):
    """`number` environments that take their steps together."""
    import gymnasium

    return gymnasium.make_vec("CartPole-v1", number, vectorization_mode="vector_entry_point")


def play(environments, weights, random=None):
    """One episode of each environment: arrays of the shape (LONGEST, environments), filled with zeros after the end.

    Returns the observations, the actions, which steps were played, and which episodes were cut off. Without `random`
    the more likely action is taken.
    """
    number = environments.num_envs
    seen, actions = np.zeros((LONGEST, number, 4), "float32"), np.zeros((LONGEST, number), "int32")
    played, cut = np.zeros((LONGEST, number), bool), np.zeros(number, bool)
    observations, _ = environments.reset()
    alive = np.ones(number, bool)
    for step in range(LONGEST):
        to_the_right = np.diff(logits(weights, observations), axis=-1)[:, 0]
        if random is not None:
            to_the_right += random.logistic(size=number)
        seen[step, alive], actions[step, alive], played[step] = observations[alive], to_the_right[alive] > 0, alive
        observations, _, fallen, out_of_time, _ = environments.step((to_the_right > 0).astype("int64"))
        cut |= alive & out_of_time & ~fallen
        alive &= ~(fallen | out_of_time)
        if not alive.any():
            break
    return seen, actions, played, cut


def advantages(played, cut):
    """The discounted return after each step minus the average over all steps, in standard deviations.

    An episode that was cut off would have gone on: after its last step it gets the return of an endless episode. Steps
    that were not played have the advantage 0. The others are scaled up, so that the mean over all is the loss.
    """
    to_go, after = np.zeros(played.shape), cut / (1 - DISCOUNT)
    for step in reversed(range(LONGEST)):
        after = np.where(played[step], 1 + DISCOUNT * after, after)
        to_go[step] = after
    of_all = to_go[played]
    # Returns that are all equal say nothing; the added number hides differences from rounding.
    scaled = (to_go - of_all.mean()) / (of_all.std() + 1e-3)
    return (np.where(played, scaled, 0.0) * played.size / played.sum()).astype("float32")


def train(step, episodes, updates, seed, progress=None):
    """Trains the model of a loop.Step; returns the mean return of each update.

    After each update `progress` is called with its number, its mean return and its loss.
    """
    environments, random = poles(episodes), np.random.default_rng(seed)
    environments.reset(seed=seed)
    returns = []
    for update in range(1, updates + 1):
        seen, actions, played, cut = play(environments, step.model.get_weights(), random)
        better = advantages(played, cut)
        loss = step(seen.reshape(-1, 4), actions.reshape(-1), better.reshape(-1))
        returns.append(played.sum(axis=0).mean())
        if progress:
            progress(update, returns[-1], float(loss))
    return np.array(returns)


def mean_return(model, seed, episodes=64):
    """The mean return of episodes in which the more likely action is taken."""
    environments = poles(episodes)
    environments.reset(seed=seed)
    return play(environments, model.get_weights())[2].sum(axis=0).mean()


def main():
    parser = Parser(__doc__.split("\n")[0], gymnasium="cartpole")
    text = "episodes per update, on all replicas together"
    parser.one_optimizer(16, text, own_rate="0.03 for Adam, else that of the class")
    parser.option("--updates", "N", "steps of the optimizer", type=count, default=60)
    arguments = parser.parse()
    strategies.choose_backend(arguments.strategy, arguments.replicas)

    import diverged
    import loop
    import report

    optimizer_class = find_optimizer(arguments.optimizer)
    devices = strategies.start(arguments)
    if optimizer_class.__name__ == "Adam" and arguments.learning_rate is None:
        arguments.learning_rate = 0.03
    with devices.scope:
        optimizer = new_optimizer(optimizer_class, arguments)
        step = loop.Step(network(), optimizer, losses, devices)

    def progress(update, mean, loss):
        diverged.check(loss, f"at update {update}", optimizer)
        if devices.is_chief and (update % 10 == 0 or update == 1):
            print(f"update {update}: mean return {mean:.1f}", flush=True)

    begin = time.perf_counter()
    returns = train(step, arguments.batch_size, arguments.updates, arguments.seed, progress)
    seconds = time.perf_counter() - begin
    if not devices.is_chief:
        return
    optimizer.finalize_variable_values(step.model.trainable_variables)  # the evaluation weights, as at the end of `fit`
    mean = mean_return(step.model, arguments.seed)
    name, eta = type(optimizer).__name__, float(optimizer.learning_rate.numpy())
    title = f"{name}, learning rate {eta:.3g}, on CartPole: mean return {mean:.0f} of {LONGEST}"
    picture = picture_file(arguments)
    with report.picture(picture, title, size=(7, 4)) as (axis,):
        axis.plot(range(1, len(returns) + 1), returns, marker="o", markersize=3)
        axis.set(xlabel="update", ylabel=f"mean return of {arguments.batch_size} episodes", ylim=(0, 1.04 * LONGEST))
    print(f"return by update: {picture}")
    facts = {"mean_return": f"{mean:.1f}", "first_return": f"{returns[0]:.1f}"}
    report.print_result(optimizer, devices, seconds, **facts)


if __name__ == "__main__":
    main()
