// IoU of rotated boxes on the CPU: vectors of pairs, computed in float for half types.

#include <algorithm>
#include <tuple>

#include "../types.h"
#include "loops.h"
#include "problem.h"

namespace d2ext {
namespace {

D2EXT_IOU_ROW(float)
D2EXT_IOU_ROW(double)
D2EXT_MATCHED_IOUS(float)
D2EXT_MATCHED_IOUS(double)

constexpr int64_t kGrain = 4096;  // pairs worth a thread, and the most of a row in one task

template <typename T>
Tensor as(const Tensor& tensor) {
  return torch::stable::contiguous(torch::stable::to(tensor, kTypeOf<T>));
}

template <typename T>
Columns<T> read_columns(const Tensor& boxes) {
  const Tensor rows = as<T>(boxes);
  return columns_of(rows.template const_data_ptr<T>(), rows.size(0));
}

Tensor box_iou_rotated(const Tensor& boxes1, const Tensor& boxes2) {
  check_boxes(boxes1, boxes2);
  const Tensor ious = with_type(boxes1.scalar_type(), [&](auto zero) {
    using T = decltype(zero);
    const Columns<T> rows = read_columns<T>(boxes1), columns = read_columns<T>(boxes2);
    const int64_t width = boxes2.size(0), pieces = (width + kGrain - 1) / kGrain;
    const Tensor out = torch::stable::new_empty(boxes1, {boxes1.size(0), width}, kTypeOf<T>);
    T* ious = out.template mutable_data_ptr<T>();
    const int64_t grain = kGrain / std::clamp<int64_t>(width, 1, kGrain);
    const int64_t tasks = boxes1.size(0) * pieces;
    torch::stable::parallel_for(0, tasks, grain, [&](int64_t begin, int64_t end) {
      for (int64_t task = begin; task < end; ++task) {
        const int64_t row = task / pieces, first = task % pieces * kGrain;
        const int64_t last = std::min(first + kGrain, width);
        fill_iou_row(rows[row], columns, first, last, ious + row * width + first);
      }
    });
    return out;
  });
  return torch::stable::to(ious, boxes1.scalar_type());
}

Tensor matched_iou_rotated(const Tensor& boxes1, const Tensor& boxes2) {
  check_matched(boxes1, boxes2);
  const Tensor ious = with_type(boxes1.scalar_type(), [&](auto zero) {
    using T = decltype(zero);
    const Columns<T> first = read_columns<T>(boxes1), second = read_columns<T>(boxes2);
    const int64_t count = boxes1.size(0);
    const Tensor out = torch::stable::new_empty(boxes1, {count}, kTypeOf<T>);
    T* ious = out.template mutable_data_ptr<T>();
    torch::stable::parallel_for(0, count, kGrain, [&](int64_t begin, int64_t end) {
      fill_matched_ious(first, second, begin, end, ious);
    });
    return out;
  });
  return torch::stable::to(ious, boxes1.scalar_type());
}

// ---- gradients

// Gradients of the boxes of the rows: for each the sum over the others, in a fixed order.
template <typename T>
Tensor rows_backward(const Tensor& grad_ious, const Tensor& boxes, const Tensor& others) {
  const Tensor grads = as<T>(grad_ious);
  const Columns<T> rows = read_columns<T>(boxes), columns = read_columns<T>(others);
  const int64_t count = boxes.size(0), width = others.size(0);
  const Tensor out = torch::stable::new_zeros(boxes, {count, 5}, kTypeOf<T>);
  const T* grad = grads.template const_data_ptr<T>();
  T* sums = out.template mutable_data_ptr<T>();
  const int64_t grain = 1 + kGrain / 16 / std::max<int64_t>(width, 1);
  torch::stable::parallel_for(0, count, grain, [&](int64_t begin, int64_t end) {
    T term[5];
    for (int64_t i = begin * width; i < end * width; ++i) {
      if (grad[i] == 0) continue;
      iou_gradient(rows[i / width], columns[i % width], grad[i], term);
      for (int k = 0; k < 5; ++k) sums[i / width * 5 + k] += term[k];
    }
  });
  return torch::stable::to(out, boxes.scalar_type());
}

std::tuple<Tensor, Tensor> box_iou_rotated_backward(
    const Tensor& grad_ious, const Tensor& boxes1, const Tensor& boxes2) {
  check_boxes(boxes1, boxes2);
  check_sizes(grad_ious, "grad_iou", {boxes1.size(0), boxes2.size(0)});
  check_floats(grad_ious, "grad_iou", boxes1);
  return with_type(boxes1.scalar_type(), [&](auto zero) {
    using T = decltype(zero);
    return std::make_tuple(
        rows_backward<T>(grad_ious, boxes1, boxes2),
        rows_backward<T>(torch::stable::transpose(grad_ious, 0, 1), boxes2, boxes1));
  });
}

std::tuple<Tensor, Tensor> matched_iou_rotated_backward(
    const Tensor& grad_ious, const Tensor& boxes1, const Tensor& boxes2) {
  check_matched(boxes1, boxes2);
  check_sizes(grad_ious, "grad_iou", {boxes1.size(0)});
  check_floats(grad_ious, "grad_iou", boxes1);
  return with_type(boxes1.scalar_type(), [&](auto zero) {
    using T = decltype(zero);
    const Tensor grads = as<T>(grad_ious);
    const Columns<T> first = read_columns<T>(boxes1), second = read_columns<T>(boxes2);
    const int64_t count = boxes1.size(0);
    const Tensor out1 = torch::stable::new_empty(boxes1, {count, 5}, kTypeOf<T>);
    const Tensor out2 = torch::stable::new_empty(boxes2, {count, 5}, kTypeOf<T>);
    const T* grad = grads.template const_data_ptr<T>();
    T* grad1 = out1.template mutable_data_ptr<T>();
    T* grad2 = out2.template mutable_data_ptr<T>();
    torch::stable::parallel_for(0, count, kGrain / 16, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) {
        iou_gradient(first[i], second[i], grad[i], grad1 + 5 * i);
        iou_gradient(second[i], first[i], grad[i], grad2 + 5 * i);
      }
    });
    return std::make_tuple(
        torch::stable::to(out1, boxes1.scalar_type()),
        torch::stable::to(out2, boxes2.scalar_type()));
  });
}

STABLE_TORCH_LIBRARY_IMPL(d2ext, CPU, library) {
  library.impl("box_iou_rotated", TORCH_BOX(&box_iou_rotated));
  library.impl("box_iou_rotated_backward", TORCH_BOX(&box_iou_rotated_backward));
  library.impl("matched_iou_rotated", TORCH_BOX(&matched_iou_rotated));
  library.impl("matched_iou_rotated_backward", TORCH_BOX(&matched_iou_rotated_backward));
}

}  // namespace
}  // namespace d2ext
