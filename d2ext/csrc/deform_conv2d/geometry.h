// The arithmetic of one sample of a deformable convolution: where it reads and with which weights.

#pragma once

#include <cmath>
#include <cstdint>
#include <torch/headeronly/macros/Macros.h>

namespace d2ext {

struct DeformConvShape {
  int64_t batch, channels, height, width;
  int64_t out_channels, out_height, out_width;
  int64_t kernel_height, kernel_width;
  int64_t groups, offset_groups;
  int64_t stride[2], padding[2], dilation[2];  // vertical, horizontal

  C10_HOST_DEVICE int64_t taps() const { return kernel_height * kernel_width; }
  int64_t rows() const { return batch * out_height * out_width; }  // output locations
  // Of one row: taps outside, offset groups inside.
  C10_HOST_DEVICE int64_t row_samples() const { return taps() * offset_groups; }
  int64_t group_channels() const { return channels / groups; }
};

// The four pixels around a position. The sample is mask times the sum of weight * pixel; its
// derivatives with respect to the position are mask times the sums of slope * pixel. A pixel
// outside the image has number -1, weight 0 and slopes 0.
template <typename T>
struct Sample {
  int64_t pixel[4];
  T weight[4], slope_y[4], slope_x[4];
  T mask;
};

template <typename T>
C10_HOST_DEVICE inline Sample<T> sample_at(T y, T x, T mask, int64_t height, int64_t width) {
  Sample<T> sample;
  const T top = std::floor(y), left = std::floor(x);
  for (int corner = 0; corner < 4; ++corner) {
    const T pixel_y = top + (corner / 2), pixel_x = left + (corner % 2);
    const bool inside = pixel_y >= 0 && pixel_y < height && pixel_x >= 0 && pixel_x < width;
    const T sign_y = corner / 2 ? 1 : -1, sign_x = corner % 2 ? 1 : -1;
    const T share_y = 1 - std::abs(y - pixel_y), share_x = 1 - std::abs(x - pixel_x);
    sample.pixel[corner] = inside ? int64_t(pixel_y) * width + int64_t(pixel_x) : -1;
    sample.weight[corner] = inside ? share_y * share_x : 0;
    sample.slope_y[corner] = inside ? sign_y * share_x : 0;
    sample.slope_x[corner] = inside ? sign_x * share_y : 0;
  }
  sample.mask = mask;
  return sample;
}

template <typename T>
struct SampleGradient {
  T y, x, mask;
};

// Gradients of position and mask, from the scalar products (over channels) of the gradient of the
// sample with the four pixels.
template <typename T>
C10_HOST_DEVICE inline SampleGradient<T> sample_gradient(
    const Sample<T>& sample, const T* products) {
  SampleGradient<T> gradient{0, 0, 0};
  for (int corner = 0; corner < 4; ++corner) {
    gradient.y += sample.mask * sample.slope_y[corner] * products[corner];
    gradient.x += sample.mask * sample.slope_x[corner] * products[corner];
    gradient.mask += sample.weight[corner] * products[corner];
  }
  return gradient;
}

// Where one tap of one offset group at one output location finds its mask in (B, G * taps, H', W')
// and its y offset in (B, 2 * G * taps, H', W'); the x offset follows after H' * W' numbers.
struct SamplePlace {
  int64_t image, location, tap, mask_index, offset_index;
};

C10_HOST_DEVICE inline SamplePlace place_at(
    const DeformConvShape& shape, int64_t image, int64_t location, int64_t tap, int64_t group) {
  const int64_t plane = shape.out_height * shape.out_width;
  const int64_t map = (image * shape.offset_groups + group) * shape.taps() + tap;
  return {image, location, tap, map * plane + location, 2 * map * plane + location};
}

C10_HOST_DEVICE inline SamplePlace place_of(
    const DeformConvShape& shape, int64_t row, int64_t row_sample) {
  const int64_t plane = shape.out_height * shape.out_width, groups = shape.offset_groups;
  return place_at(shape, row / plane, row % plane, row_sample / groups, row_sample % groups);
}

template <typename T>
C10_HOST_DEVICE inline Sample<T> read_sample(
    const DeformConvShape& shape, const SamplePlace& place, const T* offset, const T* mask) {
  const int64_t out_y = place.location / shape.out_width;
  const int64_t out_x = place.location % shape.out_width;
  const int64_t tap_y = place.tap / shape.kernel_width, tap_x = place.tap % shape.kernel_width;
  const int64_t y = out_y * shape.stride[0] - shape.padding[0] + tap_y * shape.dilation[0];
  const int64_t x = out_x * shape.stride[1] - shape.padding[1] + tap_x * shape.dilation[1];
  const T* shift = offset + place.offset_index;
  const T shift_x = shift[shape.out_height * shape.out_width];
  const T factor = mask ? mask[place.mask_index] : T(1);
  return sample_at<T>(T(y) + shift[0], T(x) + shift_x, factor, shape.height, shape.width);
}

}  // namespace d2ext
