"""Mean and standard deviation of ImageNet's channels, in 0..255."""

constants = {
    "imagenet_rgb256_mean": [123.675, 116.28, 103.53],
    "imagenet_rgb256_std": [58.395, 57.12, 57.375],
    "imagenet_bgr256_mean": [103.53, 116.28, 123.675],
    "imagenet_bgr256_std": [1.0, 1.0, 1.0],  # of the MSRA weights, which include it
}
