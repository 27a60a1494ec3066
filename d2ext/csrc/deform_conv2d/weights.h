// The kernels of a deformable convolution on the CPU, in the memory orders that its products read.

#pragma once

#include <algorithm>

#include "../product.h"
#include "../stable.h"
#include "../types.h"
#include "loops.h"

namespace d2ext {
namespace {

template <typename T>
class Kernels {
 public:
  Kernels(const DeformConvShape& shape, const Tensor& weight)
      : outputs(shape.out_channels / shape.groups),
        panels(quotient_above(outputs, kPanel<T>)),
        shape(shape),
        weight_(torch::stable::contiguous(torch::stable::to(weight, kTypeOf<T>))) {}

  // For output channels, as panels: (groups, panels, taps, C / groups, kPanel).
  Tensor forward_panels() const {
    const int64_t size = shape.groups * panels * shape.taps() * shape.group_channels() * kPanel<T>;
    const Tensor packed = torch::stable::new_empty(weight_, {size});
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

  // The other way round, into weights of the operator's order.
  void store_backward_panels(const Segment& segment, const T* from, T* weights) const {
    for (int64_t n = 0; n < outputs; ++n) {
      T* to = weights + weight_index(segment, n);
      for (int64_t c = 0; c < segment.channels(); ++c) {
        for (int64_t tap = 0; tap < shape.taps(); ++tap) {
          *to++ = from[backward_panel(tap) + n * kPanel<T> + c];
        }
      }
    }
  }

  int64_t backward_panel(int64_t tap) const { return tap * outputs * kPanel<T>; }
  int64_t backward_panels_size() const { return backward_panel(shape.taps()); }

  const int64_t outputs, panels;  // of a group

 private:
  static constexpr int64_t kWeightBlock = 8;

  // Of a segment's first channel and tap, in the operator's order: taps inside, channels outside.
  int64_t weight_index(const Segment& segment, int64_t output) const {
    const int64_t line = segment.group * outputs + output;
    return (line * shape.group_channels() + group_channel(segment)) * shape.taps();
  }

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

  const DeformConvShape shape;
  const Tensor weight_;
};

}  // namespace
}  // namespace d2ext
