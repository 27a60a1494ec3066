// Arguments and results of a deformable convolution, for both devices.

#pragma once

#include <optional>
#include <tuple>

#include "../checks.h"
#include "geometry.h"

namespace d2ext {
namespace {

using Pair = std::vector<int64_t>;

// Below this the arithmetic of sizes does not overflow.
constexpr int64_t kMostSteps = int64_t(1) << 31;

inline void check_geometry(const Pair& values, const char* name, int64_t least) {
  STD_TORCH_CHECK(values.size() == 2, name, " must be two numbers");
  for (const int64_t value : values) {
    STD_TORCH_CHECK(value >= least && value < kMostSteps, name, " is out of range");
  }
}

inline void check_output_size(
    const DeformConvShape& shape, int axis, int64_t size, int64_t kernel, int64_t output) {
  const int64_t span = shape.dilation[axis] * (kernel - 1) + 1;
  const int64_t left = size + 2 * shape.padding[axis] - span;
  STD_TORCH_CHECK(
      left >= 0 && output == left / shape.stride[axis] + 1,
      "the size of offset is not that of the output");
}

// After the tensors' numbers of dimensions.
inline void check_shape(const DeformConvShape& shape, const Tensor& weight, const Tensor& offset) {
  STD_TORCH_CHECK(
      shape.groups >= 1 && shape.groups * weight.size(1) == shape.channels &&
          shape.out_channels % shape.groups == 0,
      "weight fits no number of groups of the input channels");
  STD_TORCH_CHECK(
      shape.offset_groups >= 1 && shape.channels % shape.offset_groups == 0 &&
          offset.size(1) == 2 * shape.offset_groups * shape.taps(),
      "the channels of offset fit no number of offset groups");
  check_output_size(shape, 0, shape.height, shape.kernel_height, shape.out_height);
  check_output_size(shape, 1, shape.width, shape.kernel_width, shape.out_width);
}

inline DeformConvShape shape_of(
    const Tensor& input, const Tensor& offset, const Tensor& weight,
    const std::optional<Tensor>& mask, const Pair& stride, const Pair& padding,
    const Pair& dilation) {
  check_sizes(input, "input", {kAny, kAny, kAny, kAny});
  check_sizes(weight, "weight", {kAny, kAny, kAny, kAny});
  check_sizes(offset, "offset", {input.size(0), kAny, kAny, kAny});
  STD_TORCH_CHECK(
      weight.size(1) >= 1 && weight.size(2) >= 1 && weight.size(3) >= 1, "weight is empty");
  check_geometry(stride, "stride", 1);
  check_geometry(padding, "padding", 0);
  check_geometry(dilation, "dilation", 1);
  check_floats(input, "input", input);
  check_floats(offset, "offset", input);
  check_floats(weight, "weight", input);
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
  check_shape(shape, weight, offset);
  if (mask) {
    const int64_t maps = shape.offset_groups * shape.taps();
    check_sizes(*mask, "mask", {shape.batch, maps, shape.out_height, shape.out_width});
    check_floats(*mask, "mask", input);
  }
  return shape;
}

inline void check_bias(
    const std::optional<Tensor>& bias, const DeformConvShape& shape, const Tensor& input) {
  if (!bias) return;
  check_sizes(*bias, "bias", {shape.out_channels});
  check_floats(*bias, "bias", input);
}

inline void check_grad_output(
    const Tensor& grad_output, const DeformConvShape& shape, const Tensor& input) {
  check_sizes(
      grad_output, "grad_output",
      {shape.batch, shape.out_channels, shape.out_height, shape.out_width});
  check_floats(grad_output, "grad_output", input);
}

// Which gradients the caller needs: of the input, of offset and mask, and of the weight.
struct Needs {
  bool input, positions, weight;

  bool samples() const { return input || positions; }
};

// Gradients of input, offset, weight and mask: empty if not needed, and without a mask.
using FourTensors = std::tuple<Tensor, Tensor, Tensor, Tensor>;

// The same as sums in float or double, before they are cast to the dtypes of the operator.
struct Gradients {
  Tensor pixels;  // (B, H, W, C)
  Tensor offsets;  // like offset
  Tensor kernels;  // like weight, in any memory order
  Tensor masks;  // like mask, or empty

  // Each in the dtype of the operator's argument, and its own if it is not needed: the outputs of an
  // operator must not share memory.
  Tensor input_like(const Tensor& input, const Needs& needs) const {
    return needs.input ? channels_first(cast(pixels, input)) : none(input);
  }
  Tensor offset_like(const Tensor& offset, const Needs& needs) const {
    return needs.positions ? cast(offsets, offset) : none(offset);
  }
  Tensor weight_like(const Tensor& weight, const Needs& needs) const {
    return needs.weight ? torch::stable::contiguous(cast(kernels, weight)) : none(weight);
  }
  Tensor mask_like(const Tensor& mask, const Needs& needs) const {
    return needs.positions ? cast(masks, mask) : none(mask);
  }

  FourTensors like(
      const Tensor& input, const Tensor& offset, const Tensor& weight,
      const std::optional<Tensor>& mask, const Needs& needs) const {
    return {
        input_like(input, needs), offset_like(offset, needs), weight_like(weight, needs),
        mask ? mask_like(*mask, needs) : none(input)};
  }

 private:
  static Tensor cast(const Tensor& sums, const Tensor& like) {
    return torch::stable::to(sums, like.scalar_type());
  }
  static Tensor none(const Tensor& like) { return torch::stable::new_empty(like, {0}); }
};

}  // namespace
}  // namespace d2ext
