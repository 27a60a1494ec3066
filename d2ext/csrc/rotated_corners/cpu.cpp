// Corners of rotated boxes on the CPU, box by box, in float for half types.

#include "../checks.h"
#include "geometry.h"

namespace d2ext {
namespace {

using torch::headeronly::ScalarType;

constexpr int64_t kGrain = 1024;  // boxes worth a thread

template <typename T>
Tensor as(const Tensor& tensor) {
  const ScalarType type = torch::headeronly::CppTypeToScalarType<T>::value;
  return torch::stable::contiguous(torch::stable::to(tensor, type));
}

template <typename T>
Tensor corners(const Tensor& boxes) {
  const Tensor in = as<T>(boxes), out = torch::stable::new_empty(in, {in.size(0), 4, 2});
  const T* source = in.template const_data_ptr<T>();
  T* target = out.template mutable_data_ptr<T>();
  torch::stable::parallel_for(0, in.size(0), kGrain, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) corners_of<T>(source + 5 * i, target + 8 * i);
  });
  return torch::stable::to(out, boxes.scalar_type());
}

template <typename T>
Tensor backward(const Tensor& grad_corners, const Tensor& boxes) {
  const Tensor grad = as<T>(grad_corners), in = as<T>(boxes), out = torch::stable::empty_like(in);
  const T* grads = grad.template const_data_ptr<T>();
  const T* source = in.template const_data_ptr<T>();
  T* target = out.template mutable_data_ptr<T>();
  torch::stable::parallel_for(0, in.size(0), kGrain, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      corners_gradient<T>(grads + 8 * i, source + 5 * i, target + 5 * i);
    }
  });
  return torch::stable::to(out, boxes.scalar_type());
}

Tensor rotated_corners(const Tensor& boxes) {
  check_rotated_boxes(boxes, "boxes", boxes);
  const bool is_double = boxes.scalar_type() == ScalarType::Double;
  return is_double ? corners<double>(boxes) : corners<float>(boxes);
}

Tensor rotated_corners_backward(const Tensor& grad_corners, const Tensor& boxes) {
  check_rotated_boxes(boxes, "boxes", boxes);
  check_sizes(grad_corners, "grad_corners", {boxes.size(0), 4, 2});
  check_floats(grad_corners, "grad_corners", boxes);
  const bool is_double = boxes.scalar_type() == ScalarType::Double;
  return is_double ? backward<double>(grad_corners, boxes) : backward<float>(grad_corners, boxes);
}

STABLE_TORCH_LIBRARY_IMPL(d2ext, CPU, library) {
  library.impl("rotated_corners", TORCH_BOX(&rotated_corners));
  library.impl("rotated_corners_backward", TORCH_BOX(&rotated_corners_backward));
}

}  // namespace
}  // namespace d2ext
