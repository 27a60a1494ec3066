// Checks of the arguments of the focal loss, for both devices.

#pragma once

#include <algorithm>

#include "../checks.h"

namespace d2ext {
namespace {

inline bool starts_alike(const Tensor& tensor, const Tensor& like, int64_t axes) {
  for (int64_t axis = 0; axis < axes; ++axis) {
    if (tensor.size(axis) != like.size(axis)) return false;
  }
  return true;
}

// Targets in the shape of the logits, or an int64 class per row of logits.
inline void check_targets(const Tensor& inputs, const Tensor& targets) {
  using torch::headeronly::ScalarType;
  check_floats(inputs, "inputs", inputs);
  check_device(targets, "targets", inputs);
  const bool by_class =
      targets.dim() + 1 == inputs.dim() && targets.scalar_type() == ScalarType::Long;
  STD_TORCH_CHECK(
      (by_class || targets.dim() == inputs.dim()) &&
          starts_alike(targets, inputs, targets.dim()),
      "targets have neither the shape of inputs nor are they int64 classes of its rows");
}

// One number for a sum, otherwise one per logit.
inline void check_grad_output(const Tensor& grad_output, const Tensor& inputs, bool sum) {
  check_floats(grad_output, "grad_output", inputs);
  const bool fits = sum ? grad_output.numel() == 1
                        : grad_output.dim() == inputs.dim() &&
          starts_alike(grad_output, inputs, inputs.dim());
  STD_TORCH_CHECK(fits, "grad_output does not have the shape of the loss");
}

}  // namespace
}  // namespace d2ext
