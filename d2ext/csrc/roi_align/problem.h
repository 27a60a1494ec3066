// Checked arguments of RoI align, for both devices.

#pragma once

#include "../checks.h"
#include "geometry.h"

namespace d2ext {
namespace {

// Pixels are numbered in 32 bits.
inline void check_shape(const RoiAlignShape& shape) {
  constexpr int64_t kMost = (int64_t(1) << 31) - 1;
  STD_TORCH_CHECK(
      shape.height >= 1 && shape.width >= 1 && shape.height <= kMost / shape.width,
      "a map must have from 1 to 2^31 - 1 pixels");
  STD_TORCH_CHECK(
      shape.pooled_height >= 1 && shape.pooled_width >= 1 &&
          shape.pooled_height <= kMost / shape.pooled_width,
      "the output must have from 1 to 2^31 - 1 bins");
  STD_TORCH_CHECK(
      shape.batch >= 0 && shape.sampling_ratio <= kMostSamples, "sampling_ratio must be at most ",
      kMostSamples);
}

inline RoiAlignShape forward_shape(
    const Tensor& input, const Tensor& rois, int64_t columns, int64_t pooled_height,
    int64_t pooled_width, int64_t sampling_ratio) {
  check_sizes(input, "input", {kAny, kAny, kAny, kAny});
  check_sizes(rois, "rois", {kAny, columns});
  check_floats(input, "input", input);
  check_floats(rois, "rois", input);
  const RoiAlignShape shape{
      input.size(0), input.size(1), input.size(2), input.size(3),
      rois.size(0), pooled_height, pooled_width, sampling_ratio};
  check_shape(shape);
  return shape;
}

inline RoiAlignShape backward_shape(
    const Tensor& grad_output, const Tensor& rois, int64_t columns, int64_t sampling_ratio,
    int64_t batch, int64_t height, int64_t width) {
  check_sizes(rois, "rois", {kAny, columns});
  check_sizes(grad_output, "grad_output", {rois.size(0), kAny, kAny, kAny});
  check_floats(grad_output, "grad_output", grad_output);
  check_floats(rois, "rois", grad_output);
  const RoiAlignShape shape{
      batch, grad_output.size(1), height, width,
      rois.size(0), grad_output.size(2), grad_output.size(3), sampling_ratio};
  check_shape(shape);
  return shape;
}

}  // namespace
}  // namespace d2ext
