// Corners of rotated boxes on CUDA, one thread per box.

#include "../checks.h"
#include "../cuda.h"
#include "geometry.h"

namespace d2ext {
namespace {

constexpr int kThreads = 256;

template <typename T>
__global__ void corners_kernel(int64_t count, const T* boxes, T* corners) {
  for (int64_t i = first_item(); i < count; i += item_step()) {
    corners_of<Wide<T>>(boxes + 5 * i, corners + 8 * i);
  }
}

template <typename T>
__global__ void backward_kernel(
    int64_t count, const T* grad_corners, const T* boxes, T* grad_boxes) {
  for (int64_t i = first_item(); i < count; i += item_step()) {
    corners_gradient<Wide<T>>(grad_corners + 8 * i, boxes + 5 * i, grad_boxes + 5 * i);
  }
}

template <typename T>
void launch(const Tensor& boxes, const Tensor& corners) {
  const OnDevice device(boxes);
  const int64_t count = boxes.size(0);
  corners_kernel<T><<<blocks_for(count, kThreads), kThreads, 0, device.stream()>>>(
      count, boxes.const_data_ptr<T>(), corners.mutable_data_ptr<T>());
  check_launch();
}

template <typename T>
void launch_backward(const Tensor& grad_corners, const Tensor& boxes, const Tensor& grad_boxes) {
  const OnDevice device(boxes);
  const int64_t count = boxes.size(0);
  backward_kernel<T><<<blocks_for(count, kThreads), kThreads, 0, device.stream()>>>(
      count, grad_corners.const_data_ptr<T>(), boxes.const_data_ptr<T>(),
      grad_boxes.mutable_data_ptr<T>());
  check_launch();
}

Tensor rotated_corners(const Tensor& boxes) {
  check_rotated_boxes(boxes, "boxes", boxes);
  const Tensor in = torch::stable::contiguous(boxes);
  const Tensor out = torch::stable::new_empty(in, {in.size(0), 4, 2});
  with_floats(in.scalar_type(), [&](auto zero) { launch<decltype(zero)>(in, out); });
  return out;
}

Tensor rotated_corners_backward(const Tensor& grad_corners, const Tensor& boxes) {
  check_rotated_boxes(boxes, "boxes", boxes);
  check_sizes(grad_corners, "grad_corners", {boxes.size(0), 4, 2});
  check_floats(grad_corners, "grad_corners", boxes);
  const Tensor grad = torch::stable::contiguous(grad_corners);
  const Tensor in = torch::stable::contiguous(boxes), out = torch::stable::empty_like(in);
  with_floats(
      in.scalar_type(), [&](auto zero) { launch_backward<decltype(zero)>(grad, in, out); });
  return out;
}

STABLE_TORCH_LIBRARY_IMPL(d2ext, CUDA, library) {
  library.impl("rotated_corners", TORCH_BOX(&rotated_corners));
  library.impl("rotated_corners_backward", TORCH_BOX(&rotated_corners_backward));
}

}  // namespace
}  // namespace d2ext
