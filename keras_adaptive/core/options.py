"""The options of every optimizer, each a field: what the arguments of all algorithms are besides their own."""

from keras_adaptive.core import checks
from keras_adaptive.core.fields import Field, flag, fraction, kind, one_of, positive
from keras_adaptive.core.state.codecs import CODECS
from keras_adaptive.core.step.accumulate import Accumulate
from keras_adaptive.core.step.agc import AdaptiveClip
from keras_adaptive.core.step.average import Average
from keras_adaptive.core.step.cautious import Cautious
from keras_adaptive.core.step.cautious_decay import CautiousDecay
from keras_adaptive.core.step.centralize import Centralize
from keras_adaptive.core.step.clip import ClipGlobalNorm, ClipNorm, ClipValue
from keras_adaptive.core.step.cowclip import ClipRows, CowClip
from keras_adaptive.core.step.decay import Coupled, Decoupled, Independent
from keras_adaptive.core.step.monitor import Monitor
from keras_adaptive.core.step.nonfinite import SkipNonfinite
from keras_adaptive.groups.group import Group

# Keras's own, in its order.
OF_KERAS: dict[str, Field] = {
    "weight_decay": Field(
        checks.weight_decay,
        None,
        "lambda, the weight decay",
        "False counts as None. Which variables are decayed, groups and `exclude_from_weight_decay` say",
    ),
    "clipnorm": positive(
        None, "the largest norm of each variable's gradient; a larger one is scaled down to it", stages=(ClipNorm,)
    ),
    "clipvalue": positive(None, "the largest magnitude of an element of a gradient", stages=(ClipValue,)),
    "global_clipnorm": positive(
        None,
        "the largest norm of all gradients together",
        "At most one of clipnorm, clipvalue and global_clipnorm may be given",
        stages=(ClipGlobalNorm,),
    ),
    "use_ema": flag(
        False, "keep a moving average of the weights, which replaces them after training", stages=(Average,)
    ),
    "ema_momentum": fraction(0.99, "weight of the last moving average in the new one"),
    "ema_overwrite_frequency": kind(checks.count)(
        None, "after how many updates the weights are set to their moving average; None: after training"
    ),
    "loss_scale_factor": kind(checks.loss_scale)(
        None,
        'what the loss is multiplied by before it is differentiated; "dynamic": as large as the gradients can bear',
        "The dynamic scale is the variable `dynamic_scale`. It begins at 2**15. A call whose gradients hold an "
        "infinity or a NaN anywhere, on any replica, halves it (to no less than 1) and is left out, as by "
        "skip_nonfinite; 2000 finite calls in a row double it. Under the policy mixed_float16 compile the model with "
        "`auto_scale_loss=False`, or Keras would scale the loss once more",
    ),
    "gradient_accumulation_steps": kind(checks.count)(
        None,
        "over how many calls gradients are averaged to make one update",
        "Schedules, bias correction, decay, the moving average and `iterations` count updates",
        stages=(Accumulate,),
    ),
    "name": kind(checks.text)(None, "name of the optimizer; None: that of the class, made unique"),
}

OWN: dict[str, Field] = {
    "weight_decay_mode": one_of(
        ("decoupled", "coupled", "independent", "cautious"),
        "decoupled",
        'how weights decay: "decoupled" from the gradient and times eta, "independent" of eta too, "coupled", the L2 '
        'penalty, or "cautious", decoupled and only where the step goes towards 0',
        more='"decoupled" is theta <- theta - eta lambda theta, with the eta of the update and the theta before it; '
        '"independent" theta <- theta - lambda theta, whatever eta is; "coupled" g <- g + lambda theta after '
        'clipping; "cautious" decays only the weights that the step moves towards 0 anyway (Chen et al., 2025)',
        stages=(Decoupled, Coupled, Independent, CautiousDecay),
    ),
    "agc": positive(
        None,
        "the largest norm of each unit's gradient in units of the norm of its weights: adaptive gradient clipping",
        "A unit is an output of a layer. The paper takes 0.01, and leaves the output layer alone, as is done here "
        "(Brock, De, Smith and Simonyan, 2021)",
        stages=(AdaptiveClip,),
    ),
    "centralize": flag(
        False,
        "subtract from the gradient of each output of a layer its mean over the inputs",
        "Vectors and embeddings are left alone (Yong, Huang, Hua and Zhang, 2020)",
        stages=(Centralize,),
    ),
    "groups": Field(
        checks.list_of(Group),
        None,
        "variables with other hyperparameters than the rest",
        "What several groups say of a variable all holds; where two speak of the same argument, the first one does",
    ),
    "cowclip": kind(checks.instance(CowClip))(
        None, "how gradients of embedding tables are clipped row by row, a `CowClip`", stages=(ClipRows,)
    ),
    "cautious": flag(
        False,
        "take only the coordinates of the step that go against the gradient, enlarged by how few they are",
        "delta <- delta M size / (sum(M) + 1) with M = 1 where delta g > 0, else 0 (Liang, Chen, Liu and Liu, 2024). "
        "Weight decay stays outside, but for a class whose rule has its own place for it",
        stages=(Cautious,),
    ),
    "skip_nonfinite": flag(
        False,
        "leave out an update whose gradients hold an infinity or a NaN",
        "Anywhere, on any replica: `skipped_updates` counts them. A window of accumulation is left out as a whole. "
        "Where a finite gradient has a square or a step that the dtype does not hold, that element alone stays as it "
        "was; `skipped_elements` counts them",
        stages=(SkipNonfinite,),
    ),
    "sparse": one_of(
        ("exact", "lazy"),
        "exact",
        'how a gradient of some rows of a table is applied: "exact" as the dense one, or "lazy", to these rows alone',
        more="TensorFlow's gradient of an Embedding is such a one; a dense gradient, the only kind that JAX and "
        'Keras\'s torch have, holds all rows. Equal rows are summed in any case. "exact": the update equals that '
        "by the dense gradient to rounding. It costs what the rows cost where rows without a gradient stand "
        "still: SGD without momentum, Adagrad, Adadelta, and RMSprop without momentum. The averages of the last "
        "two fade meanwhile; that is caught up when the row is next read, for which 4 bytes a row are stored, and "
        "only for tables of embeddings, as the layers say that own them. Weight decay, "
        "momentum, an average of the weights, accumulation, a constraint, `monitor`, `cautious` and `cowclip` are "
        "about all rows: the update passes over the whole table then, as it does with all other algorithms. "
        '"lazy": only the rows that the gradient holds are read and written, weights and slots. While a row has '
        "no gradient, its momentum moves it no further, it is not decayed and its averages do not fade; t and eta "
        "are those of the whole step. Refused beside `use_ema`, accumulation, `monitor` and `cautious`, and by "
        "`apply` where the algorithm, a constraint, `cowclip` or slots in eight bits with their scales are about "
        "all rows",
    ),
    "jit_update": kind(checks.auto_or(checks.flag))(
        "auto",
        "compile the update, where the step is not compiled anyway",
        "It has no effect in a step that is compiled as a whole, such as any under JAX. On TensorFlow the update "
        'runs as programs that XLA compiles, inside whatever graph calls it: with "auto" unless a variable has a '
        "constraint that is not Keras's own, which may hold what XLA refuses; with True always, with False never. "
        "Rows of a table that are updated alone stay outside of it. On torch True has torch.compile make loops in "
        "which each tensor is read and written once, or a few times for a rule with norms: seconds in the first "
        "step, and in a later one in which a variable has its first gradient. It needs a C++ compiler on a CPU "
        "and Triton on a GPU; a ValueError says so where it does not work. Variables that are not contiguous or "
        "have a constraint or `cowclip` stay outside, and so do rules that cannot be recorded, such as Shampoo's "
        "and SOAP's for matrices, which decide by the numbers what to compute; `describe()` says after a step which "
        'and why. "auto" and False go operation by operation, with small variables joined',
    ),
    "slot_dtype": one_of(
        tuple(CODECS),
        "float32",
        "what slots are stored in",
        more='Of slots of the variable\'s shape. "float32": in the dtype of the arithmetic, which is float64 for '
        'float64 weights. "bfloat16": in half of the memory, written with stochastic rounding. Rounded to the '
        "nearest number, a moving average with beta_2 0.999 would stand still: its steps are smaller than half of "
        'the spacing. "int8": in a quarter of the memory, in codes of eight bits, written with stochastic '
        "rounding too, and one scale for each row (the last axis, or as many of the last as hold 64 elements): "
        "for Adam 2.01 bytes per parameter of a (1024, 1024) matrix. Neighbouring codes differ by 3 % at the top "
        "and by more below, down to 1e-6 of the row's largest value for a gradient's average and 1e-12 for its "
        "square's; coordinates whose gradients are smaller than that take smaller steps than they would. A row "
        "that holds an infinity or a NaN becomes NaN. In the dtype of the arithmetic stay variables of fewer than "
        "4,096 elements, tables of embeddings, as the layers say that own them, and slots that hold "
        "weights or that are subtracted from each other, such as RMSprop's if it is centered. A `Group` with a "
        "`slot_dtype` decides for its variables, embeddings and small ones too. A state that was saved with "
        "another slot_dtype is taken over. Accumulated gradients and averages of the weights are not slots and "
        "stay in the dtype of the arithmetic",
    ),
    "stochastic_rounding": flag(
        False,
        "write bfloat16 weights with stochastic rounding",
        "So steps below half of their spacing are not lost. The moving average that replaces them is rounded so too. "
        "It changes nothing for float32 and float64 weights; float16 weights are refused",
    ),
    "seed": kind(checks.seed)(
        0,
        "of the random bits by which is rounded",
        "The same seed gives the same bits on every backend, device and replica. They depend on nothing else but the "
        "element's place, the variable's place, what is rounded and the number of the update",
    ),
    "monitor": flag(
        False,
        "measure every update, for `metrics`, `metrics_by_variable` and the callback `OptimizerMonitor`",
        "Stores five more numbers for each variable, which are saved with the state",
        stages=(Monitor,),
    ),
    "shard_state": flag(
        False,
        "lay slots, accumulators and averages over the data-parallel devices; JAX only, under a `keras.distribution`",
        "Each is laid out along its first free dimension that divides by their number, while the weights stay where "
        "they are. State per device falls to that part (and what does not divide)",
    ),
}
OPTIONS = OF_KERAS | OWN
# All stages that an option may add to a step.
STAGES = tuple(stage for field in OPTIONS.values() for stage in field.stages)
