// Checks of the arguments of multi-scale deformable attention, for both devices.

#pragma once

#include "../checks.h"

namespace d2ext {
namespace {

// All levels together have the pixels of `value`.
inline void check_levels(const Tensor& value, const std::vector<int64_t>& spatial_shapes) {
  bool fits = !spatial_shapes.empty() && spatial_shapes.size() % 2 == 0;
  int64_t left = value.size(1);
  for (size_t i = 0; fits && i < spatial_shapes.size(); i += 2) {
    const int64_t height = spatial_shapes[i], width = spatial_shapes[i + 1];
    fits = height >= 1 && width >= 1 && height <= left / width;
    if (fits) left -= height * width;
  }
  STD_TORCH_CHECK(fits && left == 0, "spatial_shapes do not have the pixels of value in total");
}

inline void check_attention(
    const Tensor& value, const std::vector<int64_t>& spatial_shapes, const Tensor& locations,
    const Tensor& weights) {
  check_sizes(value, "value", {kAny, kAny, kAny, kAny});
  check_levels(value, spatial_shapes);
  const int64_t batch = value.size(0), heads = value.size(2);
  const int64_t levels = int64_t(spatial_shapes.size()) / 2;
  check_sizes(locations, "sampling_locations", {batch, kAny, heads, levels, kAny, 2});
  const int64_t queries = locations.size(1), points = locations.size(4);
  STD_TORCH_CHECK(points >= 1, "sampling_locations must have at least one point");
  check_sizes(weights, "attention_weights", {batch, queries, heads, levels, points});
  check_floats(value, "value", value);
  check_floats(locations, "sampling_locations", value);
  check_floats(weights, "attention_weights", value);
}

inline void check_grad_output(
    const Tensor& grad_output, const Tensor& value, const Tensor& locations) {
  check_sizes(
      grad_output, "grad_output",
      {value.size(0), locations.size(1), value.size(2) * value.size(3)});
  check_floats(grad_output, "grad_output", value);
}

}  // namespace
}  // namespace d2ext
