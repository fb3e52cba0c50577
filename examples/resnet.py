"""ResNet with bottlenecks, version 1.5: the stride of a block is in its 3 x 3 convolution."""

from keras import Input, Model, layers

# Blocks in each of the four stages, by the number of layers.
BLOCKS = {14: (1, 1, 1, 1), 26: (2, 2, 2, 2), 50: (3, 4, 6, 3), 101: (3, 4, 23, 3)}
# Mean and standard deviation of ImageNet's pixels, from 0 to 1.
MEAN, DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def resnet(depth, size, classes):
    """The network for uint8 colour images of size x size pixels; without the softmax, which is in the loss.

    Batch normalization is over a replica's part of the batch with tf.distribute, over the full batch with
    keras.distribution.
    """
    images = Input((size, size, 3), dtype="uint8")
    scale = [1 / (255 * deviation) for deviation in DEVIATION]
    x = layers.Rescaling(scale, [-mean / deviation for mean, deviation in zip(MEAN, DEVIATION, strict=True)])(images)
    x = layers.ReLU()(_normalized(x, 64, 7, stride=2))
    x = layers.MaxPooling2D(3, strides=2, padding="same")(x)
    for stage, blocks in enumerate(BLOCKS[depth]):
        for block in range(blocks):
            x = _bottleneck(x, 64 * 2**stage, stride=2 if stage > 0 and block == 0 else 1)
    x = layers.GlobalAveragePooling2D()(x)
    return Model(images, layers.Dense(classes, dtype="float32")(x), name=f"resnet{depth}")


def _bottleneck(x, filters, stride):
    y = layers.ReLU()(_normalized(x, filters, 1))
    y = layers.ReLU()(_normalized(y, filters, 3, stride))
    # The block begins as the identity (Goyal et al., 2017).
    y = _normalized(y, 4 * filters, 1, gamma="zeros")
    if x.shape[-1] != 4 * filters:
        x = _normalized(x, 4 * filters, 1, stride)
    return layers.ReLU()(layers.Add()([x, y]))


def _normalized(x, filters, kernel, stride=1, gamma="ones"):
    """A convolution without bias, and batch normalization."""
    convolution = layers.Conv2D(filters, kernel, stride, padding="same", use_bias=False, kernel_initializer="he_normal")
    return layers.BatchNormalization(momentum=0.9, epsilon=1e-5, gamma_initializer=gamma)(convolution(x))
