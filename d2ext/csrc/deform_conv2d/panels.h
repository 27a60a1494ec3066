// Deformable convolution on the CPU in float and double, without an im2col buffer: some rows (output
// locations) are sampled for one tap into a panel, which is multiplied by the weights while it is in
// the cache. Threads share the rows in the forward pass and the channels in the backward pass.

#pragma once

#include "levels.h"
#include "weights.h"

namespace d2ext {
namespace {

// ---- forward

// Some rows of the output, by one thread.
template <typename T>
class ForwardWorker {
 public:
  ForwardWorker(
      const Operands<T>& in, const Kernels<T>& kernels, const std::vector<Segment>& segments,
      const Pixels<T>& pixels, const T* panels)
      : in_(in), kernels_(kernels), segments_(segments), pixels_(pixels), panels_(panels),
        found_(kRows), columns_(kRows * kDepth), zeros_(kDepth) {}

  // Adds to output, (count, C').
  void add(int64_t first, int64_t count, T* output) {
    for (const Segment& segment : segments_) {
      for (int64_t tap = 0; tap < in_.shape.taps(); ++tap) {
        const Samples<T> samples{first, count, tap, segment.offset_group, found_.data()};
        find_samples(in_.shape, samples, in_.offsets(), in_.masks());
        gather_rows(
            samples, {pixels_.data + segment.begin, pixels_.stride}, segment.channels(),
            zeros_.data(), columns_.data(), kDepth);
        multiply_columns(segment, tap, count, output + segment.group * kernels_.outputs);
      }
    }
  }

 private:
  void multiply_columns(const Segment& segment, int64_t tap, int64_t count, T* output) {
    for (int64_t panel = 0; panel < kernels_.panels; ++panel) {
      const int64_t done = panel * kPanel<T>;
      multiply<T>(
          {count, std::min(kPanel<T>, kernels_.outputs - done), segment.channels(),
           columns_.data(), kDepth, 1, panels_ + kernels_.forward_panel(segment, panel, tap),
           output + done, in_.shape.out_channels});
    }
  }

  const Operands<T>& in_;
  const Kernels<T>& kernels_;
  const std::vector<Segment>& segments_;
  const Pixels<T> pixels_;
  const T* panels_;
  std::vector<Sample<T>> found_;
  Buffer<T> columns_, zeros_;
};

// (B, C', H', W'), channels last
template <typename T>
Tensor forward(
    const Operands<T>& in, const Kernels<T>& kernels, const Tensor& panels, const Tensor& bias) {
  const DeformConvShape& shape = in.shape;
  const int64_t channels = shape.out_channels;
  const Tensor output = empty_channels_last(
      bias, {shape.batch, channels, shape.out_height, shape.out_width});
  std::optional<Tensor> copy;
  const Pixels<T> pixels = in.all_pixels(&copy);
  const std::vector<Segment> segments = split_channels(shape, kDepth);
  const int64_t work = shape.taps() * shape.group_channels() * channels;  // of a row
  const int64_t grain = 1 + kGrain / std::max<int64_t>(work, 1);
  torch::stable::parallel_for(0, shape.rows(), grain, [&](int64_t begin, int64_t end) {
    ForwardWorker<T> worker(in, kernels, segments, pixels, panels.template const_data_ptr<T>());
    for (int64_t first = begin; first < end; first += kRows) {
      const int64_t count = std::min(kRows, end - first);
      T* to = output.template mutable_data_ptr<T>() + first * channels;
      for (int64_t i = 0; i < count; ++i) {
        std::copy_n(bias.template const_data_ptr<T>(), channels, to + i * channels);
      }
      worker.add(first, count, to);
    }
  });
  return output;
}

// ---- backward

// Some channels of all rows, by one thread.
template <typename T>
class BackwardWorker {
 public:
  BackwardWorker(
      const std::vector<LevelBack<T>>& levels, const Kernels<T>& kernels, T* grad_weight,
      const Needs& needs)
      : levels_(levels), kernels_(kernels), grad_weight_(grad_weight), needs_(needs),
        found_(kRows), panels_(kernels.backward_panels_size()),
        grad_panels_(kernels.backward_panels_size()), columns_(kRows * kPanel<T>),
        grad_columns_(kRows * kPanel<T>), products_(kRows * 4), bin_(kPanel<T>),
        zeros_(kPanel<T>) {
    for (const LevelBack<T>& level : levels) copies_.emplace_back(copy_size(*level.in));
  }

  void add(const Segment& segment) {
    std::vector<Pixels<T>> pixels;
    for (size_t i = 0; i < levels_.size(); ++i) {
      pixels.push_back(pixels_of(*levels_[i].in, segment, copies_[i].data()));
    }
    kernels_.copy_backward_panels(segment, panels_.data());
    std::fill_n(grad_panels_.data(), kernels_.backward_panels_size(), T(0));
    for (int64_t tap = 0; tap < levels_[0].in->shape.taps(); ++tap) {
      for (size_t i = 0; i < levels_.size(); ++i) add_level(levels_[i], pixels[i], segment, tap);
    }
    if (needs_.weight) kernels_.store_backward_panels(segment, grad_panels_.data(), grad_weight_);
  }

 private:
  static int64_t copy_size(const Operands<T>& in) {
    const int64_t pixels = in.shape.batch * in.shape.height * in.shape.width;
    return in.is_channels_last() ? 0 : pixels * kPanel<T>;
  }

  static Pixels<T> pixels_of(const Operands<T>& in, const Segment& segment, T* copy) {
    if (in.is_channels_last()) return {in.pixels() + segment.begin, in.shape.channels};
    in.copy_pixels(0, in.pixel_blocks(), segment.begin, segment.channels(), copy, kPanel<T>);
    return {copy, kPanel<T>};
  }

  void add_level(
      const LevelBack<T>& level, const Pixels<T>& pixels, const Segment& segment, int64_t tap) {
    const DeformConvShape& shape = level.in->shape;
    for (int64_t first = 0; first < shape.rows(); first += kRows) {
      const int64_t count = std::min(kRows, shape.rows() - first);
      const Samples<T> samples{first, count, tap, segment.offset_group, found_.data()};
      find_samples(shape, samples, level.in->offsets(), level.in->masks());
      const T* grads =
          level.grad_rows + first * shape.out_channels + segment.group * kernels_.outputs;
      multiply_back(segment, samples, grads, shape.out_channels);
      scatter_rows(
          samples, pixels, segment.channels(), zeros_.data(), grad_columns_.data(),
          columns_.data(), kPanel<T>, level.sums.pixels + segment.begin, shape.channels,
          bin_.data(), products_.data());
      if (needs_.weight) multiply_kernels(segment, samples, grads, shape.out_channels);
      if (needs_.positions) add_positions(*level.in, samples, products_.data(), level.sums);
    }
  }

  // Gradients of columns: those of rows times kernels.
  void multiply_back(
      const Segment& segment, const Samples<T>& samples, const T* grads, int64_t step) {
    std::fill_n(grad_columns_.data(), samples.rows * kPanel<T>, T(0));
    if (!needs_.samples()) return;
    multiply<T>(
        {samples.rows, segment.channels(), kernels_.outputs, grads, step, 1,
         panels_.data() + kernels_.backward_panel(samples.tap), grad_columns_.data(), kPanel<T>});
  }

  // Gradients of kernels: those of rows, transposed, times columns.
  void multiply_kernels(
      const Segment& segment, const Samples<T>& samples, const T* grads, int64_t step) {
    multiply<T>(
        {kernels_.outputs, segment.channels(), samples.rows, grads, 1, step, columns_.data(),
         grad_panels_.data() + kernels_.backward_panel(samples.tap), kPanel<T>});
  }

  const std::vector<LevelBack<T>>& levels_;
  const Kernels<T>& kernels_;
  T* grad_weight_;
  const Needs needs_;
  std::vector<Sample<T>> found_;
  std::vector<Buffer<T>> copies_;  // of pixels, by level
  Buffer<T> panels_, grad_panels_, columns_, grad_columns_, products_, bin_, zeros_;
};

template <typename T>
std::vector<Gradients> backward(
    const std::vector<Operands<T>>& levels, const Tensor& weight,
    const std::vector<Tensor>& grad_outputs, const Needs& needs) {
  const Kernels<T> kernels(levels[0].shape, weight);
  // Each number of it is written once, if it is needed.
  const Tensor grad_weight = needs.weight ? levels[0].empty(weight.sizes()) : levels[0].empty({0});
  std::vector<Tensor> rows;
  std::vector<Gradients> grads;
  std::vector<LevelBack<T>> backs;
  for (size_t i = 0; i < levels.size(); ++i) {
    rows.push_back(channels_last(Operands<T>::to_type(grad_outputs[i])));
    grads.push_back(levels[i].zero_gradients(grad_weight));
    backs.push_back({&levels[i], rows[i].template const_data_ptr<T>(), {}});
  }
  share_segments<T>(
      segments_for(levels[0].shape, kPanel<T>), backs, grads,
      [&](const std::vector<LevelBack<T>>& own, const std::vector<Segment>& segments) {
        BackwardWorker<T> worker(
            own, kernels, grad_weight.template mutable_data_ptr<T>(), needs);
        for (const Segment& segment : segments) worker.add(segment);
      });
  return grads;
}

}  // namespace
}  // namespace d2ext
