"""Streams crops of images, all of one size: for data that do not fit into memory.

There are two formats of tensorflow-datasets. array_record (the digits; everything, if TensorFlow is not installed) is
read by index and cropped with Pillow. TFRecords are streamed with tf.data. The crops have the same distribution, but
not the same pixels. In both, the data of an epoch depend only on the seed and the epoch's number. So a resumed training
sees the data that it would have seen, on any number of replicas and workers.
"""

import functools
import math
from typing import NamedTuple

import data
import numpy as np
import tensorflow_datasets as tfds
from PIL import Image
from streams import by_replica, repeated, stream


class Augmentation(NamedTuple):
    """A random crop for training: its smallest area as a fraction of the image, and whether it may be mirrored.

    `central` is for the test: the side of the central square, as a fraction of the image's shorter side.
    """

    least_area: float
    mirror: bool
    central: float


# The aspect ratio of a random crop is between 3:4 and 4:3 (Szegedy et al., 2015). A mirrored digit is not a digit.
AUGMENTATIONS = {
    "imagenet": Augmentation(0.08, True, 0.875),
    "gentle": Augmentation(0.6, False, 1.0),
    "none": Augmentation(1.0, False, 1.0),
}
FORMS = (3 / 4, 4 / 3)
TRIES = 10


class Plan(NamedTuple):
    """How examples become batches of crops and one-hot labels."""

    keys: tuple[str, str]
    classes: int
    batch_size: int
    size: int
    augmentation: Augmentation
    seed: int


class Noise:
    """Random images with ImageNet's number of classes, to measure speed."""

    def __init__(self, count, size):
        self.count = count
        self.images = np.random.default_rng(0).integers(256, size=(64, size, size, 3), dtype=np.uint8)

    def __len__(self):
        return self.count

    def __getitem__(self, index):
        return {"image": self.images[index % len(self.images)], "label": index % 1000}


def streams(labelled, plan, first_epoch, epochs, steps):
    """The arguments of `fit`: training data from `first_epoch` on, with `steps` steps per epoch, and test data.

    Call it in the scope of the devices.
    """
    if not data.by_index(labelled.builder):
        return _with_tensorflow(labelled, plan, first_epoch, epochs, steps)
    train, test = (labelled.builder.as_data_source(split=split) for split in (labelled.train, labelled.test))
    return read_by_index(train, test, plan, first_epoch, epochs, steps)


def read_by_index(train, test, plan, first_epoch, epochs, steps):
    """The same from sources that return {"image": ..., "label": ...} for an index."""
    train, test = Crops(train, plan), Crops(test, plan)

    def trained_on(number, part, parts):
        return train.batch(*divmod(number, steps), part, parts)

    def tested_on(number, part, parts):
        return test.batch(None, number, part, parts)

    return {
        "x": stream(trained_on, first_epoch * steps, epochs * steps),
        "steps_per_epoch": steps,
        "validation_data": repeated(tested_on, len(test)),
        "validation_steps": len(test),
    }


class Crops:
    """Batches of crops: random crops for training, in a new order in every epoch; central crops for the test."""

    def __init__(self, source, plan):
        self.source, self.plan = source, plan
        # Batches of at most two epochs are made at the same time.
        self._order = functools.lru_cache(maxsize=2)(self._order)

    def __len__(self):
        """The number of batches of all examples; in the test, examples that fill up the last one have the weight 0."""
        return -(-len(self.source) // self.plan.batch_size)

    def batch(self, epoch, step, part=0, parts=1):
        """A training batch of this epoch, or one of its equal parts; a test batch if the epoch is None."""
        plan, order = self.plan, self._order(epoch)
        places = step * plan.batch_size + np.split(np.arange(plan.batch_size), parts)[part]
        chosen = [int(index) for index in order[places % len(order)]]
        examples = [self.source[index] for index in chosen]
        image, label = plan.keys
        images = np.stack(
            [self._cropped(each[image], index, epoch) for each, index in zip(examples, chosen, strict=True)]
        )
        labels = np.eye(plan.classes, dtype="float32")[[int(each[label]) for each in examples]]
        if epoch is not None:
            return images, labels
        filled_up = len(self) * plan.batch_size / len(self.source)
        return images, labels, np.where(places < len(self.source), filled_up, 0.0).astype("float32")

    def _order(self, epoch):
        """The order of the examples' numbers."""
        count = len(self.source)
        return np.arange(count) if epoch is None else np.random.default_rng((self.plan.seed, epoch)).permutation(count)

    def _cropped(self, image, index, epoch):
        plan, training = self.plan, epoch is not None
        mirrored = False
        if training and plan.augmentation.least_area < 1.0:
            rng = np.random.default_rng((plan.seed, epoch, index))
            box = _random_box(image.shape, plan.augmentation.least_area, rng)
            mirrored = plan.augmentation.mirror and rng.random() < 0.5
        else:
            box = _middle(image.shape, 1.0 if training else plan.augmentation.central)
        picture = Image.fromarray(image.squeeze(-1) if image.shape[-1] == 1 else image).convert("RGB")
        pixels = np.asarray(picture.resize((plan.size, plan.size), Image.Resampling.BILINEAR, box=box))
        return pixels[:, ::-1] if mirrored else pixels


def _middle(shape, part):
    """Left, top, right, bottom of the central square."""
    height, width = shape[:2]
    side = part * min(height, width)
    left, top = (width - side) / 2, (height - side) / 2
    return left, top, left + side, top + side


def _random_box(shape, least_area, rng):
    """The same for a random part of the image; the central square if no try fits into the image."""
    height, width = shape[:2]
    for _ in range(TRIES):
        area = height * width * rng.uniform(least_area, 1.0)
        form = math.exp(rng.uniform(*map(math.log, FORMS)))
        w, h = math.sqrt(area * form), math.sqrt(area / form)
        if w <= width and h <= height:
            left, top = rng.uniform(0, width - w), rng.uniform(0, height - h)
            return left, top, left + w, top + h
    return _middle(shape, 1.0)


def _with_tensorflow(labelled, plan, first_epoch, epochs, steps):
    tf = data.only_reading()
    image, label = plan.keys
    tests = labelled.builder.info.splits[labelled.test].num_examples
    filled_up = -(-tests // plan.batch_size) * plan.batch_size

    def compressed(split):
        return labelled.builder.as_dataset(split=split, decoders={image: tfds.decode.SkipDecoding()})

    decoded = labelled.builder.info.features[image].decode_example

    def finished(pixels, top, left, height, width):
        """The crop of this part, in the size and the colours of the network's input."""
        pixels = tf.image.resize(
            pixels[top : top + height, left : left + width], (plan.size, plan.size), antialias=True
        )
        pixels = tf.image.grayscale_to_rgb(pixels) if pixels.shape[-1] == 1 else pixels
        return tf.cast(tf.clip_by_value(tf.round(pixels), 0, 255), tf.uint8)

    def middle(pixels, part):
        size = tf.shape(pixels)
        side = tf.cast(part * tf.cast(tf.minimum(size[0], size[1]), tf.float32), tf.int32)
        return finished(pixels, (size[0] - side) // 2, (size[1] - side) // 2, side, side)

    def trained_on(epoch, index, example):
        pixels = decoded(example[image])
        classes = tf.one_hot(example[label], plan.classes)
        if plan.augmentation.least_area == 1.0:
            return middle(pixels, 1.0), classes
        seed = tf.stack([plan.seed + epoch * 2**32, index])
        begin, size, _ = tf.image.stateless_sample_distorted_bounding_box(
            tf.shape(pixels),
            tf.zeros((1, 0, 4)),
            seed,
            min_object_covered=0.0,
            aspect_ratio_range=FORMS,
            area_range=(plan.augmentation.least_area, 1.0),
            max_attempts=TRIES,
            use_image_if_no_bounding_boxes=True,
        )
        pixels = finished(pixels, begin[0], begin[1], size[0], size[1])
        return tf.image.stateless_random_flip_left_right(pixels, seed) if plan.augmentation.mirror else pixels, classes

    def tested_on(index, example):
        weight = tf.where(index < tests, filled_up / tests, 0.0)
        return (
            middle(decoded(example[image]), plan.augmentation.central),
            tf.one_hot(example[label], plan.classes),
            weight,
        )

    def of_parts(examples, parts, total, made):
        """Crops of only the examples in these parts of each batch."""
        size = plan.batch_size // total

        def belongs(index, example):
            part = index % plan.batch_size // size
            return (parts.start <= part) & (part < parts.stop)

        made = examples.enumerate().filter(belongs).map(made, tf.data.AUTOTUNE, deterministic=True)
        return made.batch(size, drop_remainder=True)

    def train(numbers, parts, total):
        def epoch_of(epoch):
            # If the images are compressed, a shuffle buffer that is large enough fits into memory.
            examples = compressed(labelled.train).shuffle(16384, seed=plan.seed + epoch).take(steps * plan.batch_size)
            return of_parts(examples, parts, total, lambda *one: trained_on(epoch, *one))

        return tf.data.Dataset.range(numbers.start // steps, numbers.stop // steps).flat_map(epoch_of)

    def test(numbers, parts, total):
        return of_parts(compressed(labelled.test).repeat().take(filled_up), parts, total, tested_on)

    return {
        "x": by_replica(train, first_epoch * steps, epochs * steps),
        "steps_per_epoch": steps,
        "validation_data": by_replica(test, 0, filled_up // plan.batch_size, repeat=True),
        "validation_steps": filled_up // plan.batch_size,
    }
