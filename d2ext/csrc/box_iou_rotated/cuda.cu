// IoU of rotated boxes on CUDA, one thread per pair. For the gradient of a box one warp sums over
// all others, without atomics: two runs give the same bits.

#include <tuple>

#include "../cuda.h"
#include "geometry.h"
#include "problem.h"

namespace d2ext {
namespace {

constexpr int kThreads = 256;

template <typename T>
__global__ void iou_kernel(
    int64_t count, int64_t width, const T* boxes1, const T* boxes2, T* ious) {
  using W = Wide<T>;
  for (int64_t i = first_item(); i < count; i += item_step()) {
    const RotatedBox<W> box = read_box<W>(boxes1 + 5 * (i / width));
    const RotatedBox<W> other = read_box<W>(boxes2 + 5 * (i % width));
    ious[i] = T(iou_of(box, direction_of(box.angle), other));
  }
}

template <typename T>
__global__ void matched_iou_kernel(int64_t count, const T* boxes1, const T* boxes2, T* ious) {
  using W = Wide<T>;
  for (int64_t i = first_item(); i < count; i += item_step()) {
    const RotatedBox<W> box = read_box<W>(boxes1 + 5 * i);
    ious[i] = T(iou_of(box, direction_of(box.angle), read_box<W>(boxes2 + 5 * i)));
  }
}

// The gradient of IoU number (row, column) lies at row * row_step + column * column_step.
template <typename T>
__global__ void rows_backward_kernel(
    int64_t rows, int64_t width, int64_t row_step, int64_t column_step, const T* grad_ious,
    const T* boxes, const T* others, T* grad_boxes) {
  using W = Wide<T>;
  const int lane = threadIdx.x % kWarp;
  for (int64_t row = first_item() / kWarp; row < rows; row += item_step() / kWarp) {
    const RotatedBox<W> box = read_box<W>(boxes + 5 * row);
    W sums[5] = {0, 0, 0, 0, 0}, term[5];
    for (int64_t column = lane; column < width; column += kWarp) {
      const W grad = W(grad_ious[row * row_step + column * column_step]);
      if (grad == 0) continue;
      iou_gradient(box, read_box<W>(others + 5 * column), grad, term);
      for (int k = 0; k < 5; ++k) sums[k] += term[k];
    }
    for (int k = 0; k < 5; ++k) {
      const W sum = warp_sum(sums[k]);
      if (lane == 0) grad_boxes[5 * row + k] = T(sum);
    }
  }
}

template <typename T>
__global__ void matched_backward_kernel(
    int64_t count, const T* grad_ious, const T* boxes, const T* others, T* grad_boxes) {
  using W = Wide<T>;
  for (int64_t i = first_item(); i < count; i += item_step()) {
    W grad[5];
    iou_gradient(
        read_box<W>(boxes + 5 * i), read_box<W>(others + 5 * i), W(grad_ious[i]), grad);
    for (int k = 0; k < 5; ++k) grad_boxes[5 * i + k] = T(grad[k]);
  }
}

// ---- launches

template <typename T>
void launch_iou(const Tensor& boxes1, const Tensor& boxes2, const Tensor& ious) {
  const OnDevice device(boxes1);
  const int64_t count = ious.numel();
  iou_kernel<T><<<blocks_for(count, kThreads), kThreads, 0, device.stream()>>>(
      count, boxes2.size(0), boxes1.const_data_ptr<T>(), boxes2.const_data_ptr<T>(),
      ious.mutable_data_ptr<T>());
  check_launch();
}

template <typename T>
void launch_matched_iou(const Tensor& boxes1, const Tensor& boxes2, const Tensor& ious) {
  const OnDevice device(boxes1);
  const int64_t count = ious.numel();
  matched_iou_kernel<T><<<blocks_for(count, kThreads), kThreads, 0, device.stream()>>>(
      count, boxes1.const_data_ptr<T>(), boxes2.const_data_ptr<T>(), ious.mutable_data_ptr<T>());
  check_launch();
}

template <typename T>
void launch_rows_backward(
    const Tensor& grad_ious, const Tensor& boxes, const Tensor& others, const Tensor& grad_boxes) {
  const OnDevice device(boxes);
  const int64_t rows = boxes.size(0), blocks = blocks_for(rows, kThreads / kWarp);
  rows_backward_kernel<T><<<blocks, kThreads, 0, device.stream()>>>(
      rows, others.size(0), grad_ious.stride(0), grad_ious.stride(1),
      grad_ious.const_data_ptr<T>(), boxes.const_data_ptr<T>(), others.const_data_ptr<T>(),
      grad_boxes.mutable_data_ptr<T>());
  check_launch();
}

template <typename T>
void launch_matched_backward(
    const Tensor& grad_ious, const Tensor& boxes, const Tensor& others, const Tensor& grad_boxes) {
  const OnDevice device(boxes);
  const int64_t count = boxes.size(0);
  matched_backward_kernel<T><<<blocks_for(count, kThreads), kThreads, 0, device.stream()>>>(
      count, grad_ious.const_data_ptr<T>(), boxes.const_data_ptr<T>(), others.const_data_ptr<T>(),
      grad_boxes.mutable_data_ptr<T>());
  check_launch();
}

// ---- operators

Tensor box_iou_rotated(const Tensor& boxes1, const Tensor& boxes2) {
  check_boxes(boxes1, boxes2);
  const Tensor first = torch::stable::contiguous(boxes1);
  const Tensor second = torch::stable::contiguous(boxes2);
  const Tensor ious = torch::stable::new_empty(first, {first.size(0), second.size(0)});
  with_floats(first.scalar_type(), [&](auto zero) {
    launch_iou<decltype(zero)>(first, second, ious);
  });
  return ious;
}

Tensor matched_iou_rotated(const Tensor& boxes1, const Tensor& boxes2) {
  check_matched(boxes1, boxes2);
  const Tensor first = torch::stable::contiguous(boxes1);
  const Tensor second = torch::stable::contiguous(boxes2);
  const Tensor ious = torch::stable::new_empty(first, {first.size(0)});
  with_floats(first.scalar_type(), [&](auto zero) {
    launch_matched_iou<decltype(zero)>(first, second, ious);
  });
  return ious;
}

std::tuple<Tensor, Tensor> box_iou_rotated_backward(
    const Tensor& grad_ious, const Tensor& boxes1, const Tensor& boxes2) {
  check_boxes(boxes1, boxes2);
  check_sizes(grad_ious, "grad_iou", {boxes1.size(0), boxes2.size(0)});
  check_floats(grad_ious, "grad_iou", boxes1);
  const Tensor first = torch::stable::contiguous(boxes1);
  const Tensor second = torch::stable::contiguous(boxes2);
  const Tensor grad_columns = torch::stable::transpose(grad_ious, 0, 1);
  const Tensor grad1 = torch::stable::empty_like(first);
  const Tensor grad2 = torch::stable::empty_like(second);
  with_floats(first.scalar_type(), [&](auto zero) {
    using T = decltype(zero);
    launch_rows_backward<T>(grad_ious, first, second, grad1);
    launch_rows_backward<T>(grad_columns, second, first, grad2);
  });
  return {grad1, grad2};
}

std::tuple<Tensor, Tensor> matched_iou_rotated_backward(
    const Tensor& grad_ious, const Tensor& boxes1, const Tensor& boxes2) {
  check_matched(boxes1, boxes2);
  check_sizes(grad_ious, "grad_iou", {boxes1.size(0)});
  check_floats(grad_ious, "grad_iou", boxes1);
  const Tensor grad = torch::stable::contiguous(grad_ious);
  const Tensor first = torch::stable::contiguous(boxes1);
  const Tensor second = torch::stable::contiguous(boxes2);
  const Tensor grad1 = torch::stable::empty_like(first);
  const Tensor grad2 = torch::stable::empty_like(second);
  with_floats(first.scalar_type(), [&](auto zero) {
    using T = decltype(zero);
    launch_matched_backward<T>(grad, first, second, grad1);
    launch_matched_backward<T>(grad, second, first, grad2);
  });
  return {grad1, grad2};
}

STABLE_TORCH_LIBRARY_IMPL(d2ext, CUDA, library) {
  library.impl("box_iou_rotated", TORCH_BOX(&box_iou_rotated));
  library.impl("box_iou_rotated_backward", TORCH_BOX(&box_iou_rotated_backward));
  library.impl("matched_iou_rotated", TORCH_BOX(&matched_iou_rotated));
  library.impl("matched_iou_rotated_backward", TORCH_BOX(&matched_iou_rotated_backward));
}

}  // namespace
}  // namespace d2ext
