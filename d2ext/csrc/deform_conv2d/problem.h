// Arguments and results of a deformable convolution, for both devices.

#pragma once

#include <optional>
#include <tuple>

#include "../stable.h"
#include "geometry.h"

namespace d2ext {
namespace {

using Pair = std::vector<int64_t>;

inline DeformConvShape shape_of(
    const Tensor& input, const Tensor& offset, const Tensor& weight, const Pair& stride,
    const Pair& padding, const Pair& dilation) {
  DeformConvShape shape{};
  shape.batch = input.size(0), shape.channels = input.size(1);
  shape.height = input.size(2), shape.width = input.size(3);
  shape.out_channels = weight.size(0);
  shape.out_height = offset.size(2), shape.out_width = offset.size(3);
  shape.kernel_height = weight.size(2), shape.kernel_width = weight.size(3);
  shape.groups = shape.channels / weight.size(1);
  shape.offset_groups = offset.size(1) / (2 * shape.taps());
  for (int axis = 0; axis < 2; ++axis) {
    shape.stride[axis] = stride[axis];
    shape.padding[axis] = padding[axis];
    shape.dilation[axis] = dilation[axis];
  }
  return shape;
}

// Gradients of input, offset, weight and mask, the last one empty without a mask.
using FourTensors = std::tuple<Tensor, Tensor, Tensor, Tensor>;

// The same as sums in float or double, before they are cast to the dtypes of the operator.
struct Gradients {
  Tensor pixels;  // (B, H, W, C)
  Tensor offsets;  // like offset
  Tensor kernels;  // like weight, in any memory order
  Tensor masks;  // like mask, or empty

  FourTensors like(
      const Tensor& input, const Tensor& offset, const Tensor& weight,
      const std::optional<Tensor>& mask) const {
    return {
        channels_first(torch::stable::to(pixels, input.scalar_type())),
        torch::stable::to(offsets, offset.scalar_type()),
        torch::stable::contiguous(torch::stable::to(kernels, weight.scalar_type())),
        torch::stable::to(masks, mask ? mask->scalar_type() : input.scalar_type())};
  }
};

}  // namespace
}  // namespace d2ext
