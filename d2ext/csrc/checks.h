// Checks of arguments that kernels share. The functions in Python check more and say more, but
// torch.ops can be called without them, and a kernel must never read or write beyond a buffer.

#pragma once

#include <initializer_list>
#include <torch/headeronly/core/ScalarType.h>
#include <torch/headeronly/util/Exception.h>

#include "stable.h"

namespace d2ext {

constexpr int64_t kAny = -1;  // stands for any size

inline void check_sizes(
    const Tensor& tensor, const char* name, std::initializer_list<int64_t> expected) {
  bool fits = tensor.dim() == int64_t(expected.size());
  int64_t axis = 0;
  for (const int64_t size : expected) {
    fits = fits && (size == kAny || tensor.size(axis) == size);
    ++axis;
  }
  STD_TORCH_CHECK(fits, name, " has a shape that does not fit the other arguments");
}

inline void check_device(const Tensor& tensor, const char* name, const Tensor& like) {
  STD_TORCH_CHECK(
      tensor.is_cuda() == like.is_cuda() &&
          tensor.get_device_index() == like.get_device_index(),
      name, " is on another device than the other arguments");
}

// Floating-point numbers on the device of `like`.
inline void check_floats(const Tensor& tensor, const char* name, const Tensor& like) {
  using torch::headeronly::ScalarType;
  const ScalarType type = tensor.scalar_type();
  STD_TORCH_CHECK(
      type == ScalarType::Float || type == ScalarType::Double || type == ScalarType::Half ||
          type == ScalarType::BFloat16,
      name, " must hold floats");
  check_device(tensor, name, like);
}

// (N, 5) floats on the device of `like`.
inline void check_rotated_boxes(const Tensor& boxes, const char* name, const Tensor& like) {
  check_sizes(boxes, name, {kAny, 5});
  check_floats(boxes, name, like);
}

}  // namespace d2ext
