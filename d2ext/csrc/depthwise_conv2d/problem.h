// Checked arguments of a depthwise convolution.

#pragma once

#include <optional>
#include <vector>

#include "../checks.h"

namespace d2ext {
namespace {

// Rows or columns, the last one excluded.
struct Range {
  int64_t begin, end;
  int64_t size() const { return end - begin; }
};

inline int64_t floor_quotient(int64_t count, int64_t size) {
  return count / size - (count % size < 0);
}

// Sizes along one axis of a depthwise convolution.
struct Axis {
  int64_t input, output, kernel, stride, before, dilation;  // `before`: zeros before the input

  int64_t span() const { return (kernel - 1) * dilation + 1; }

  // The pixel that an output reads by a tap; outside the input it is 0.
  int64_t read(int64_t out, int64_t tap) const { return out * stride - before + tap * dilation; }

  // The pixels that outputs read, those outside the input included.
  Range read(const Range& outputs) const {
    return {read(outputs.begin, 0), read(outputs.end - 1, kernel - 1) + 1};
  }

  // The outputs that read pixels, those outside the output included.
  Range readers(const Range& pixels) const {
    return {
        floor_quotient(pixels.begin + before - (kernel - 1) * dilation, stride),
        floor_quotient(pixels.end - 1 + before, stride) + 1};
  }
};

struct DepthwiseShape {
  int64_t batch, channels;
  Axis y, x;

  int64_t taps() const { return y.kernel * x.kernel; }
};

using Numbers = std::vector<int64_t>;

// Below this the arithmetic of sizes does not overflow.
constexpr int64_t kMostSteps = int64_t(1) << 31;

inline void check_numbers(const Numbers& values, const char* name, size_t count, int64_t least) {
  STD_TORCH_CHECK(values.size() == count, name, " must be ", count, " numbers");
  for (const int64_t value : values) {
    STD_TORCH_CHECK(value >= least && value < kMostSteps, name, " is out of range");
  }
}

inline Axis axis_of(
    int64_t input, int64_t kernel, int64_t stride, int64_t before, int64_t after,
    int64_t dilation) {
  Axis axis{input, 0, kernel, stride, before, dilation};
  const int64_t left = input + before + after - axis.span();
  STD_TORCH_CHECK(kernel >= 1 && left >= 0, "the kernel is larger than the padded input");
  axis.output = left / stride + 1;
  return axis;
}

// Padding is left, right, top, bottom.
inline DepthwiseShape shape_of(
    const Tensor& input, const Tensor& weight, const Numbers& stride, const Numbers& padding,
    const Numbers& dilation) {
  check_sizes(input, "input", {kAny, kAny, kAny, kAny});
  check_sizes(weight, "weight", {input.size(1), 1, kAny, kAny});
  check_floats(input, "input", input);
  check_floats(weight, "weight", input);
  check_numbers(stride, "stride", 2, 1);
  check_numbers(padding, "padding", 4, 0);
  check_numbers(dilation, "dilation", 2, 1);
  STD_TORCH_CHECK(
      weight.size(2) < kMostSteps && weight.size(3) < kMostSteps, "weight is too large");
  return {
      input.size(0), input.size(1),
      axis_of(input.size(2), weight.size(2), stride[0], padding[2], padding[3], dilation[0]),
      axis_of(input.size(3), weight.size(3), stride[1], padding[0], padding[1], dilation[1])};
}

inline void check_bias(const std::optional<Tensor>& bias, const Tensor& input) {
  if (!bias) return;
  check_sizes(*bias, "bias", {input.size(1)});
  check_floats(*bias, "bias", input);
}

inline void check_grad_output(
    const Tensor& grad_output, const DepthwiseShape& shape, const Tensor& input) {
  check_sizes(
      grad_output, "grad_output", {shape.batch, shape.channels, shape.y.output, shape.x.output});
  check_floats(grad_output, "grad_output", input);
}

}  // namespace
}  // namespace d2ext
