// Checks of the arguments of IoU of rotated boxes, for both devices.

#pragma once

#include "../checks.h"

namespace d2ext {
namespace {

inline void check_boxes(const Tensor& boxes1, const Tensor& boxes2) {
  check_rotated_boxes(boxes1, "boxes1", boxes1);
  check_rotated_boxes(boxes2, "boxes2", boxes1);
  STD_TORCH_CHECK(
      boxes1.scalar_type() == boxes2.scalar_type(), "boxes1 and boxes2 have different dtypes");
}

inline void check_matched(const Tensor& boxes1, const Tensor& boxes2) {
  check_boxes(boxes1, boxes2);
  check_sizes(boxes2, "boxes2", {boxes1.size(0), 5});
}

}  // namespace
}  // namespace d2ext
