// The maps that a deformable convolution on the CPU reads: input, offsets and masks.

#pragma once

#include <algorithm>
#include <optional>

#include "../buffer.h"
#include "../stable.h"
#include "loops.h"
#include "problem.h"

namespace d2ext {
namespace {

// The maps of one problem, in T.
template <typename T>
class Operands {
 public:
  Operands(
      const DeformConvShape& shape, const Tensor& input, const Tensor& offset,
      const std::optional<Tensor>& mask)
      : shape(shape),
        input_(to_type(input)),
        is_channels_last_(reordered(input_, {0, 2, 3, 1}).is_contiguous()),
        offset_(in_order(offset)) {
    if (!is_channels_last_) input_ = torch::stable::contiguous(input_);
    if (mask) mask_ = in_order(*mask);
  }

  static Tensor to_type(const Tensor& tensor) {
    return torch::stable::to(tensor, torch::headeronly::CppTypeToScalarType<T>::value);
  }
  static Tensor in_order(const Tensor& tensor) {
    return torch::stable::contiguous(to_type(tensor));
  }
  Tensor empty(torch::headeronly::IntHeaderOnlyArrayRef size) const {
    return torch::stable::new_empty(offset_, size);
  }
  Tensor zeros(torch::headeronly::IntHeaderOnlyArrayRef size) const {
    return torch::stable::new_zeros(offset_, size);
  }

  const T* offsets() const { return offset_.template const_data_ptr<T>(); }
  const T* masks() const { return mask_ ? mask_->template const_data_ptr<T>() : nullptr; }

  // Of the maps; `kernels` are those of all levels.
  Gradients zero_gradients(const Tensor& kernels) const {
    return {
        zeros({shape.batch, shape.height, shape.width, shape.channels}), zeros(offset_.sizes()),
        kernels, mask_ ? zeros(mask_->sizes()) : zeros({0})};
  }

  // ---- pixels

  bool is_channels_last() const { return is_channels_last_; }
  const T* pixels() const { return input_.template const_data_ptr<T>(); }  // as they are

  // Pixels are copied in blocks, within an image.
  int64_t pixel_blocks() const { return shape.batch * image_blocks(); }

  // Some channels of the blocks from begin to end: (B * H * W, step).
  void copy_pixels(
      int64_t begin, int64_t end, int64_t channel, int64_t channels, T* to, int64_t step) const {
    const int64_t plane = shape.height * shape.width;
    for (int64_t block = begin; block < end; ++block) {
      const int64_t image = block / image_blocks(), first = block % image_blocks() * kBlock;
      const int64_t count = std::min(kBlock, plane - first);
      const T* from = pixels() + (image * shape.channels + channel) * plane + first;
      T* rows = to + (image * plane + first) * step;
      for (int64_t c = 0; c < channels; ++c) {
        for (int64_t i = 0; i < count; ++i) rows[i * step + c] = from[c * plane + i];
      }
    }
  }

  // All channels, channels last; the returned tensor owns a copy if there is one.
  Pixels<T> all_pixels(std::optional<Tensor>* copy) const {
    if (is_channels_last_) return {pixels(), shape.channels};
    *copy = empty({shape.batch, shape.height, shape.width, shape.channels});
    T* to = (*copy)->template mutable_data_ptr<T>();
    torch::stable::parallel_for(0, pixel_blocks(), 1, [&](int64_t begin, int64_t end) {
      copy_pixels(begin, end, 0, shape.channels, to, shape.channels);
    });
    return {to, shape.channels};
  }

  const DeformConvShape shape;

 private:
  static constexpr int64_t kBlock = 16;

  int64_t image_blocks() const { return quotient_above(shape.height * shape.width, kBlock); }

  Tensor input_;
  const bool is_channels_last_;
  const Tensor offset_;
  std::optional<Tensor> mask_;
};

}  // namespace
}  // namespace d2ext
