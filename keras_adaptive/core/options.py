"""The options of every optimizer, each a field: the arguments that all algorithms share."""

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
        "False counts as None. Groups and `exclude_from_weight_decay` say which variables are decayed",
    ),
    "clipnorm": positive(
        None, "maximum norm of each variable's gradient; a larger gradient is scaled down to it", stages=(ClipNorm,)
    ),
    "clipvalue": positive(None, "maximum magnitude of each element of a gradient", stages=(ClipValue,)),
    "global_clipnorm": positive(
        None,
        "maximum norm of all gradients together",
        "At most one of clipnorm, clipvalue and global_clipnorm may be given",
        stages=(ClipGlobalNorm,),
    ),
    "use_ema": flag(
        False, "store a moving average of the weights, which replaces them after training", stages=(Average,)
    ),
    "ema_momentum": fraction(0.99, "decay rate of the moving average of the weights"),
    "ema_overwrite_frequency": kind(checks.count)(
        None, "interval, in updates, at which the weights are set to their moving average; None: only after training"
    ),
    "loss_scale_factor": kind(checks.loss_scale)(
        None,
        'factor of the loss that is differentiated; "dynamic": as large as the gradients allow',
        "The dynamic scale is the variable `dynamic_scale`. It begins at 2**15. A call whose gradients hold an "
        "infinity or a NaN anywhere, on any replica, halves it (to no less than 1) and is skipped, as with "
        "skip_nonfinite. 2000 finite calls in a row double it. Under the policy mixed_float16 compile the model with "
        "`auto_scale_loss=False`, or Keras scales the loss a second time",
    ),
    "gradient_accumulation_steps": kind(checks.count)(
        None,
        "number of calls whose gradients are averaged for one update",
        "Schedules, bias correction, decay, the moving average and `iterations` count updates",
        stages=(Accumulate,),
    ),
    "name": kind(checks.text)(None, "name of the optimizer; None: the name of the class, made unique"),
}

OWN: dict[str, Field] = {
    "weight_decay_mode": one_of(
        ("decoupled", "coupled", "independent", "cautious"),
        "decoupled",
        'form of the weight decay: "decoupled" from the gradient and times eta, "independent" of eta too, "coupled" '
        'as an L2 penalty, or "cautious": decoupled, and only where the step goes towards 0',
        more='"decoupled" is theta <- theta - eta lambda theta, with the eta of the update and the theta before it. '
        '"independent" is theta <- theta - lambda theta, whatever eta is. "coupled" is g <- g + lambda theta after '
        'clipping. "cautious" decays only the weights that the step moves towards 0 anyway (Chen et al., 2025)',
        stages=(Decoupled, Coupled, Independent, CautiousDecay),
    ),
    "agc": positive(
        None,
        "adaptive gradient clipping: maximum ratio of the norm of each unit's gradient to the norm of its weights",
        "A unit is an output of a layer. The paper uses 0.01. The output layer is not clipped, as in the paper "
        "(Brock, De, Smith and Simonyan, 2021)",
        stages=(AdaptiveClip,),
    ),
    "centralize": flag(
        False,
        "gradient centralization: subtract from the gradient of each output of a layer its mean over the inputs",
        "Vectors and embeddings are not centralized (Yong, Huang, Hua and Zhang, 2020)",
        stages=(Centralize,),
    ),
    "groups": Field(
        checks.list_of(Group),
        None,
        "groups of variables with other hyperparameters than the rest",
        "If several groups match a variable, all of them apply; where two set the same argument, the first one wins",
    ),
    "cowclip": kind(checks.instance(CowClip))(
        None, "a `CowClip`, which clips the gradients of embedding tables row by row", stages=(ClipRows,)
    ),
    "cautious": flag(
        False,
        "take only the coordinates of the step that go against the gradient, scaled up for those left out",
        "delta <- delta M size / (sum(M) + 1) with M = 1 where delta g > 0, else 0 (Liang, Chen, Liu and Liu, 2024). "
        "Weight decay is not masked, unless the rule of the class applies it",
        stages=(Cautious,),
    ),
    "skip_nonfinite": flag(
        False,
        "skip an update whose gradients hold an infinity or a NaN",
        "This holds for any element on any replica; `skipped_updates` counts these updates. A window of accumulation "
        "is skipped as a unit. If the square or the step of a finite gradient overflows the dtype, only that element "
        "stays as it was; `skipped_elements` counts them",
        stages=(SkipNonfinite,),
    ),
    "sparse": one_of(
        ("exact", "lazy"),
        "exact",
        'how a gradient of some rows of a table is applied: "exact", as the dense gradient, or "lazy", to these rows '
        "alone",
        more="TensorFlow's gradient of an Embedding holds some rows. A dense gradient holds all rows; JAX and Keras's "
        "torch have no other kind. Repeated rows are summed in both modes. "
        '"exact": the update equals that of the dense gradient up to rounding. Its cost grows with the rows of the '
        "gradient for SGD without momentum, Adagrad, Adadelta, and RMSprop without momentum, because other rows do "
        "not move. The averages of the last two decay meanwhile; that is caught up when the row is next read. It "
        "takes 4 bytes per row, and is done only for tables that their layers declare as embeddings. Weight decay, "
        "momentum, an average of the weights, accumulation, a constraint, `monitor`, `cautious` and `cowclip` "
        "concern all rows: with these, and with all other algorithms, the update passes over the full table. "
        '"lazy": only the rows that the gradient holds are read and written, weights and slots. While a row has '
        "no gradient, it is not decayed, momentum does not move it, and its averages do not change; t and eta "
        "count all updates. It is refused with `use_ema`, accumulation, `monitor` and `cautious`. `apply` "
        "refuses it if all rows are concerned: by the algorithm, a constraint, `cowclip`, or the scales of slots in "
        "eight bits",
    ),
    "jit_update": kind(checks.auto_or(checks.flag))(
        "auto",
        "compile the update if the step is not compiled anyway",
        "It has no effect if the entire step is compiled, as always under JAX, with one exception: on a TPU, and with "
        "True on a GPU, JAX updates slots in eight bits by a kernel for each shape, which reads and writes them once; "
        "otherwise XLA makes two passes. On TensorFlow XLA compiles the update, "
        'inside whatever graph calls it. With "auto" it does so unless a variable has a constraint that is not '
        "Keras's own, which may hold what XLA refuses; with True always; with False never. "
        "A program for some rows of a table is compiled again for every number of lookups. If that changes from step "
        "to step, it is rounded up to a power of two. On torch, True uses torch.compile to make loops "
        "that read and write each tensor once, or a few times for a rule with norms. This takes seconds in the first "
        "step, and in a later step in which a variable has its first gradient. It needs a C++ compiler on a CPU "
        "and Triton on a GPU; without them it raises a ValueError. Variables that are not contiguous, or have "
        "a constraint or `cowclip`, are not compiled. Nor are rules that cannot be recorded because the numbers "
        "decide what they compute, such as Shampoo's and SOAP's for matrices. After a step `describe()` says which "
        'and why. On torch "auto" and False run operation by operation, with small variables joined',
    ),
    "slot_dtype": one_of(
        tuple(CODECS),
        "float32",
        "dtype in which slots are stored",
        more='It applies to slots of the variable\'s shape. "float32": in the dtype of the arithmetic, which is '
        'float64 for float64 weights. "bfloat16": in half of the memory, written with stochastic rounding. With '
        "rounding to nearest, a moving average with beta_2 0.999 would stand still: its steps are smaller than half "
        'of the spacing. "int8": in a quarter of the memory, as codes of eight bits with one scale per row, also '
        "written with stochastic rounding. A row is the last axis, or as many of the last axes as hold 64 elements; "
        "Adam takes 2.01 bytes per parameter of a (1024, 1024) matrix. Neighbouring codes differ by 3 % at the top "
        "and by more below, down to 1e-6 of the row's largest value for the average of the gradient and 1e-12 for "
        "that of its square. Coordinates with smaller gradients take smaller steps than in float32. A row "
        "that holds an infinity or a NaN becomes NaN. Some slots stay in the dtype of the arithmetic: those of "
        "variables of fewer than 4,096 elements, those of tables that their layers declare as embeddings, those that "
        "hold weights, and those that are subtracted from each other, such as RMSprop's if it is centered. A `Group` "
        "with a `slot_dtype` overrides this for its variables, also for embeddings and small ones. A state that was "
        "saved with another slot_dtype is converted. Accumulated gradients and averages of the weights are not "
        "slots and stay in the dtype of the arithmetic",
    ),
    "stochastic_rounding": flag(
        False,
        "write bfloat16 weights with stochastic rounding",
        "Then steps below half of their spacing are not lost. The moving average that replaces the weights is rounded "
        "in the same way. It changes nothing for float32 and float64 weights; float16 weights are refused",
    ),
    "seed": kind(checks.seed)(
        0,
        "seed of the random bits of stochastic rounding",
        "The same seed gives the same bits on every backend, device and replica. They depend only on the element's "
        "place, the variable's place, what is rounded and the number of the update",
    ),
    "monitor": flag(
        False,
        "measure every update, for `metrics`, `metrics_by_variable` and the callback `OptimizerMonitor`",
        "It stores five more numbers for each variable, which are saved with the state",
        stages=(Monitor,),
    ),
    "shard_state": flag(
        False,
        "shard slots, accumulators and averages over the data-parallel devices; JAX only, with a `keras.distribution`",
        "Each is sharded along its first free dimension that the number of devices divides; the weights stay where "
        "they are. A device then stores its share, and what cannot be divided",
    ),
}
OPTIONS = OF_KERAS | OWN
# All stages that options may add to a step.
STAGES = tuple(stage for field in OPTIONS.values() for stage in field.stages)
