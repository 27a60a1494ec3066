// Multi-scale deformable attention on the CPU, head by head, since pixels of one head are read
// together. Threads share the outputs in the forward pass and the planes (see loops.h) in the
// backward pass: no two add to one gradient, and any number of threads gives the same bits.

#include <tuple>

#include "../types.h"
#include "loops.h"
#include "problem.h"

namespace d2ext {
namespace {

using torch::headeronly::ScalarType;

D2EXT_MS_DEFORM_ATTN_LOOPS(float)
D2EXT_MS_DEFORM_ATTN_LOOPS(double)

constexpr int64_t kGrain = 1 << 15;  // multiplications worth a thread

AttentionShape shape_of(
    const Tensor& value, const std::vector<int64_t>& spatial_shapes, const Tensor& locations) {
  AttentionShape shape{};
  shape.batch = value.size(0), shape.pixels = value.size(1);
  shape.heads = value.size(2), shape.channels = value.size(3);
  shape.queries = locations.size(1), shape.points = locations.size(4);
  shape.levels = levels_of(spatial_shapes);
  return shape;
}

template <typename T>
Tensor as_contiguous(const Tensor& tensor) {
  constexpr ScalarType type = torch::headeronly::CppTypeToScalarType<T>::value;
  return torch::stable::contiguous(torch::stable::to(tensor, type));
}

// One problem, computed in T.
template <typename T>
class Attention {
 public:
  Attention(
      const AttentionShape& shape, const Tensor& value, const Tensor& locations,
      const Tensor& weights)
      : shape_(shape),
        value_(as_contiguous<T>(value)),
        locations_(as_contiguous<T>(locations)),
        weights_(as_contiguous<T>(weights)) {
    for (const Level& level : shape_.levels) {
      plane_starts_.push_back(head_planes_);
      head_planes_ += plane_size(shape_, level);
    }
  }

  // (N, Q, M * D)
  Tensor forward() const {
    const int64_t width = shape_.heads * shape_.channels;
    const Tensor output =
        torch::stable::new_empty(value_, {shape_.batch, shape_.queries, width});
    const Tensor buffer = torch::stable::new_empty(value_, {shape_.heads * head_planes_});
    T* planes = buffer.template mutable_data_ptr<T>();
    const int64_t grain = 1 + kGrain / (1 + 4 * shape_.samples() * shape_.lanes());
    for (int64_t image = 0; image < shape_.batch; ++image) {
      read_planes(image, planes);
      const T* locations = of_image(locations_, image);
      const T* weights = of_image(weights_, image);
      T* sums = in_image(output, image);
      torch::stable::parallel_for(
          0, shape_.heads * shape_.queries, grain, [&](int64_t begin, int64_t end) {
            attend_rows(shape_, planes, head_planes_, locations, weights, sums, begin, end);
          });
    }
    return output;
  }

  struct Gradients {
    Tensor value, locations, weights;
  };

  Gradients backward(const Tensor& grad_output) const {
    const Gradients grads{
        torch::stable::empty_like(value_), torch::stable::empty_like(locations_),
        torch::stable::empty_like(weights_)};
    const Tensor output = as_contiguous<T>(grad_output);
    const int64_t levels = int64_t(shape_.levels.size());
    const int64_t parts = shape_.batch * shape_.heads * levels;
    torch::stable::parallel_for(0, parts, 1, [&](int64_t begin, int64_t end) {
      std::vector<T> plane, grad_plane;
      for (int64_t part = begin; part < end; ++part) {
        const int64_t image = part / levels / shape_.heads, head = part / levels % shape_.heads;
        const int64_t number = part % levels;
        const Level& level = shape_.levels[number];
        plane.resize(plane_size(shape_, level));
        grad_plane.assign(plane_size(shape_, level), T(0));
        const int64_t first = first_pixel(image, head, level);
        read_plane(
            shape_, level, value_.template const_data_ptr<T>() + first, plane.data());
        attend_level_back(
            shape_, head, number, plane.data(), grad_plane.data(),
            {of_image(output, image), of_image(locations_, image), of_image(weights_, image),
             in_image(grads.locations, image), in_image(grads.weights, image)});
        write_plane(
            shape_, level, grad_plane.data(),
            grads.value.template mutable_data_ptr<T>() + first);
      }
    });
    return grads;
  }

 private:
  const T* of_image(const Tensor& tensor, int64_t image) const {
    return tensor.template const_data_ptr<T>() + image * (tensor.numel() / shape_.batch);
  }

  T* in_image(const Tensor& tensor, int64_t image) const {
    return tensor.template mutable_data_ptr<T>() + image * (tensor.numel() / shape_.batch);
  }

  // Where a head's channels of a level begin in `value`.
  int64_t first_pixel(int64_t image, int64_t head, const Level& level) const {
    return ((image * shape_.pixels + level.first) * shape_.heads + head) * shape_.channels;
  }

  void read_planes(int64_t image, T* planes) const {
    const int64_t levels = int64_t(shape_.levels.size());
    torch::stable::parallel_for(0, shape_.heads * levels, 1, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) {
        const int64_t head = i / levels, number = i % levels;
        const Level& level = shape_.levels[number];
        read_plane(
            shape_, level,
            value_.template const_data_ptr<T>() + first_pixel(image, head, level),
            planes + head * head_planes_ + plane_starts_[number]);
      }
    });
  }

  const AttentionShape shape_;
  const Tensor value_, locations_, weights_;
  std::vector<int64_t> plane_starts_;
  int64_t head_planes_ = 0;  // numbers in all planes of a head
};

Tensor ms_deform_attn(
    const Tensor& value, const std::vector<int64_t>& spatial_shapes, const Tensor& locations,
    const Tensor& weights) {
  check_attention(value, spatial_shapes, locations, weights);
  const AttentionShape shape = shape_of(value, spatial_shapes, locations);
  const Tensor output = with_type(value.scalar_type(), [&](auto zero) {
    return Attention<decltype(zero)>(shape, value, locations, weights).forward();
  });
  return torch::stable::to(output, value.scalar_type());
}

// Gradients of value, locations and weights.
std::tuple<Tensor, Tensor, Tensor> ms_deform_attn_backward(
    const Tensor& grad_output, const Tensor& value, const std::vector<int64_t>& spatial_shapes,
    const Tensor& locations, const Tensor& weights) {
  check_attention(value, spatial_shapes, locations, weights);
  check_grad_output(grad_output, value, locations);
  const AttentionShape shape = shape_of(value, spatial_shapes, locations);
  return with_type(value.scalar_type(), [&](auto zero) {
    const auto grads =
        Attention<decltype(zero)>(shape, value, locations, weights).backward(grad_output);
    return std::make_tuple(
        torch::stable::to(grads.value, value.scalar_type()),
        torch::stable::to(grads.locations, locations.scalar_type()),
        torch::stable::to(grads.weights, weights.scalar_type()));
  });
}

STABLE_TORCH_LIBRARY_IMPL(d2ext, CPU, library) {
  library.impl("ms_deform_attn", TORCH_BOX(&ms_deform_attn));
  library.impl("ms_deform_attn_backward", TORCH_BOX(&ms_deform_attn_backward));
}

}  // namespace
}  // namespace d2ext
