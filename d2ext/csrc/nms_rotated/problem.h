// Checks of the arguments of rotated non-maximum suppression, for both devices.

#pragma once

#include <optional>

#include "../checks.h"

namespace d2ext {
namespace {

inline void check_candidates(
    const Tensor& boxes, const Tensor& scores, const std::optional<Tensor>& groups,
    double threshold) {
  check_rotated_boxes(boxes, "boxes", boxes);
  check_sizes(scores, "scores", {boxes.size(0)});
  check_floats(scores, "scores", boxes);
  if (groups) {
    check_sizes(*groups, "groups", {boxes.size(0)});
    check_device(*groups, "groups", boxes);
  }
  STD_TORCH_CHECK(threshold >= 0, "iou_threshold must be 0 or more");
}

}  // namespace
}  // namespace d2ext
