// Operands of a deformable convolution on the CPU, in the memory orders that its loops read.

#pragma once

#include <algorithm>
#include <optional>
#include <vector>

#include "../buffer.h"
#include "../product.h"
#include "../stable.h"
#include "loops.h"
#include "problem.h"

namespace d2ext {
namespace {

// The tensors of one problem, in T.
template <typename T>
class Operands {
 public:
  Operands(
      const DeformConvShape& shape, const Tensor& input, const Tensor& offset,
      const Tensor& weight, const std::optional<Tensor>& mask)
      : shape(shape),
        outputs(shape.out_channels / shape.groups),
        panels(quotient_above(outputs, kPanel<T>)),
        input_(to_type(input)),
        is_channels_last_(reordered(input_, {0, 2, 3, 1}).is_contiguous()),
        offset_(in_order(offset)),
        weight_(in_order(weight)) {
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

  // Zeros, but for the weights, of which each number is written once.
  Gradients new_gradients(const Needs& needs) const {
    return {
        zeros({shape.batch, shape.height, shape.width, shape.channels}), zeros(offset_.sizes()),
        needs.weight ? empty(weight_.sizes()) : empty({0}),
        mask_ ? zeros(mask_->sizes()) : zeros({0})};
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

  // ---- weights

  // For output channels, as panels: (groups, panels, taps, C / groups, kPanel).
  Tensor forward_panels() const {
    const int64_t size = shape.groups * panels * shape.taps() * shape.group_channels() * kPanel<T>;
    const Tensor packed = empty({size});
    T* to = packed.template mutable_data_ptr<T>();
    const int64_t blocks = shape.groups * panels * weight_blocks();
    torch::stable::parallel_for(0, blocks, 1, [&](int64_t begin, int64_t end) {
      for (int64_t block = begin; block < end; ++block) pack_weights(block, to);
    });
    return packed;
  }

  // Where one tap of a segment stands in `forward_panels`.
  int64_t forward_panel(const Segment& segment, int64_t panel, int64_t tap) const {
    const int64_t block = (segment.group * panels + panel) * shape.taps() + tap;
    return (block * shape.group_channels() + group_channel(segment)) * kPanel<T>;
  }

  // The weights of a segment's channels: (taps, C' / groups, kPanel). All taps at once, since they
  // are neighbours in memory.
  void copy_backward_panels(const Segment& segment, T* to) const {
    for (int64_t n = 0; n < outputs; ++n) {
      const T* from = weights() + weight_index(segment, n);
      for (int64_t c = 0; c < segment.channels(); ++c) {
        for (int64_t tap = 0; tap < shape.taps(); ++tap) {
          to[backward_panel(tap) + n * kPanel<T> + c] = *from++;
        }
      }
    }
  }

  int64_t backward_panel(int64_t tap) const { return tap * outputs * kPanel<T>; }
  int64_t backward_panels_size() const { return backward_panel(shape.taps()); }

  // Of a segment's first channel and tap, in the operator's order: taps inside, channels outside.
  int64_t weight_index(const Segment& segment, int64_t output) const {
    const int64_t line = segment.group * outputs + output;
    return (line * shape.group_channels() + group_channel(segment)) * shape.taps();
  }

  const DeformConvShape shape;
  const int64_t outputs, panels;  // of a group

 private:
  static constexpr int64_t kBlock = 16, kWeightBlock = 8;

  int64_t image_blocks() const { return quotient_above(shape.height * shape.width, kBlock); }
  int64_t weight_blocks() const { return quotient_above(shape.group_channels(), kWeightBlock); }
  const T* weights() const { return weight_.template const_data_ptr<T>(); }
  int64_t group_channel(const Segment& segment) const {
    return segment.begin % shape.group_channels();
  }

  // All taps of some channels, for the outputs of one panel: few enough for the fastest cache.
  void pack_weights(int64_t block, T* to) const {
    const int64_t all = shape.group_channels(), taps = shape.taps();
    const int64_t place = block / weight_blocks(), panel = place % panels;
    const int64_t begin = block % weight_blocks() * kWeightBlock;
    const int64_t end = std::min(begin + kWeightBlock, all);
    const int64_t first = place / panels * outputs + panel * kPanel<T>;
    const int64_t count = std::min(kPanel<T>, outputs - panel * kPanel<T>);
    T* lines = to + place * taps * all * kPanel<T>;
    for (int64_t n = 0; n < kPanel<T>; ++n) {
      const T* from = weights() + (first + n) * all * taps;
      for (int64_t channel = begin; channel < end; ++channel) {
        for (int64_t tap = 0; tap < taps; ++tap) {
          const T value = n < count ? from[channel * taps + tap] : T(0);
          lines[(tap * all + channel) * kPanel<T> + n] = value;
        }
      }
    }
  }

  Tensor input_;
  const bool is_channels_last_;
  const Tensor offset_, weight_;
  std::optional<Tensor> mask_;
};

}  // namespace
}  // namespace d2ext
