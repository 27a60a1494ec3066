// The loops over pairs of rotated boxes on the CPU: one box against many, or matched pairs.

#pragma once

#include <vector>

#include "../stable.h"
#include "geometry.h"

namespace d2ext {

// Boxes as one array per coordinate, so that consecutive boxes load as a vector.
template <typename T>
struct Columns {
  std::vector<T> x, y, half_width, half_height, angle;

  explicit Columns(int64_t count)
      : x(count), y(count), half_width(count), half_height(count), angle(count) {}

  void set(int64_t i, const RotatedBox<T>& box) {
    x[i] = box.x, y[i] = box.y, angle[i] = box.angle;
    half_width[i] = box.half_width, half_height[i] = box.half_height;
  }

  D2EXT_INLINE RotatedBox<T> operator[](int64_t i) const {
    return {x[i], y[i], half_width[i], half_height[i], angle[i]};
  }
};

template <typename T>
Columns<T> columns_of(const T* boxes, int64_t count) {
  Columns<T> columns(count);
  for (int64_t i = 0; i < count; ++i) columns.set(i, read_box<T>(boxes + 5 * i));
  return columns;
}

// ious[j - begin] = IoU of the box with others[j].
template <typename T>
D2EXT_INLINE void iou_row(
    const RotatedBox<T>& box, const Columns<T>& others, int64_t begin, int64_t end, T* ious) {
  const RotatedBox<T> own = box;  // a copy: no store to `ious` can change it
  const Direction<T> axes = direction_of(own.angle);
#pragma omp simd
  for (int64_t j = begin; j < end; ++j) ious[j - begin] = iou_of(own, axes, others[j]);
}

// ious[i] = IoU of the i-th pair.
template <typename T>
D2EXT_INLINE void matched_ious(
    const Columns<T>& boxes1, const Columns<T>& boxes2, int64_t begin, int64_t end, T* ious) {
#pragma omp simd
  for (int64_t i = begin; i < end; ++i) {
    const RotatedBox<T> own = boxes1[i];
    ious[i] = iou_of(own, direction_of(own.angle), boxes2[i]);
  }
}

#define D2EXT_IOU_ROW(T)                                                                         \
  D2EXT_VECTORS void fill_iou_row(                                                               \
      const RotatedBox<T>& box, const Columns<T>& others, int64_t begin, int64_t end, T* ious) { \
    iou_row<T>(box, others, begin, end, ious);                                                   \
  }

#define D2EXT_MATCHED_IOUS(T)                                                                    \
  D2EXT_VECTORS void fill_matched_ious(                                                          \
      const Columns<T>& boxes1, const Columns<T>& boxes2, int64_t begin, int64_t end, T* ious) { \
    matched_ious<T>(boxes1, boxes2, begin, end, ious);                                           \
  }

}  // namespace d2ext
