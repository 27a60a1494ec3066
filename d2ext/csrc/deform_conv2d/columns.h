// Deformable convolution on the CPU in bfloat16: the samples of all levels are rounded to columns
// (im2col), for processors multiply matrices of bfloat16 many times as fast as float32 (AMX). Sums are
// taken in float.

#pragma once

#include "levels.h"

namespace d2ext {
namespace {

using torch::headeronly::BFloat16;

constexpr int64_t kTileBytes = 16 << 20;  // columns at a time

// Whether the processor multiplies bfloat16 by instructions of its own.
inline bool multiplies_bfloat16() {
#if defined(__x86_64__) && defined(__GNUC__) && __GNUC__ >= 12
  return __builtin_cpu_supports("avx512bf16");
#else
  return false;
#endif
}

// Lines of `count` numbers: to = from. Steps are from one line to the next.
D2EXT_VECTORS void narrow_lines(
    const float* from, int64_t from_step, int64_t lines, int64_t count, BFloat16* to,
    int64_t to_step) {
  for (int64_t i = 0; i < lines; ++i, from += from_step, to += to_step) {
#pragma omp simd
    for (int64_t k = 0; k < count; ++k) store(to + k, from[k]);
  }
}

D2EXT_VECTORS void widen_lines(
    const BFloat16* from, int64_t from_step, int64_t lines, int64_t count, float* to,
    int64_t to_step) {
  for (int64_t i = 0; i < lines; ++i, from += from_step, to += to_step) {
#pragma omp simd
    for (int64_t k = 0; k < count; ++k) to[k] = load(from + k);
  }
}

D2EXT_VECTORS void add_terms(
    const BFloat16* from, int64_t from_step, int64_t lines, int64_t count, const float* terms,
    BFloat16* to, int64_t to_step) {
  for (int64_t i = 0; i < lines; ++i, from += from_step, to += to_step) {
#pragma omp simd
    for (int64_t k = 0; k < count; ++k) store(to + k, load(from + k) + terms[k]);
  }
}

D2EXT_VECTORS void add_numbers(const BFloat16* from, int64_t count, float* sums) {
#pragma omp simd
  for (int64_t i = 0; i < count; ++i) sums[i] += load(from + i);
}

// Weights, (C', C / groups, taps), by tap: (C', taps, C / groups).
template <typename From, typename To>
void reorder_weights(
    int64_t outputs, int64_t inner, int64_t outer, const From* from, To* to) {
  torch::stable::parallel_for(0, outputs, 8, [&](int64_t begin, int64_t end) {
    for (int64_t n = begin; n < end; ++n) {
      for (int64_t i = 0; i < inner; ++i) {
        for (int64_t k = 0; k < outer; ++k) {
          store(to + (n * inner + i) * outer + k, load(from + (n * outer + k) * inner + i));
        }
      }
    }
  });
}

// The levels of a problem as one matrix with a row per output location.
class ColumnsConv {
 public:
  ColumnsConv(const std::vector<Operands<float>>& levels, const Tensor& weight)
      : levels_(levels),
        shape_(levels[0].shape),
        outputs_(shape_.out_channels / shape_.groups),
        column_(shape_.taps() * shape_.group_channels()),
        kernels_(torch::stable::new_empty(
            weight, {shape_.groups, outputs_, column_}, kTypeOf<BFloat16>)),
        copies_(levels.size()) {
    for (const Operands<float>& level : levels) {
      firsts_.push_back(rows_);
      rows_ += level.shape.rows();
      pixels_.push_back(level.all_pixels(&copies_[pixels_.size()]));
    }
    const int64_t most = kTileBytes / int64_t(sizeof(BFloat16)) / (shape_.groups * column_);
    tile_ = std::clamp<int64_t>(most / kRows * kRows, kRows, std::max<int64_t>(rows_, kRows));
    buffer_ = torch::stable::new_empty(kernels_, {shape_.groups * tile_ * column_});
    const Tensor source = torch::stable::contiguous(weight);
    BFloat16* to = kernels_.mutable_data_ptr<BFloat16>();
    if (source.scalar_type() == kTypeOf<float>) {
      reorder_weights(
          shape_.out_channels, shape_.taps(), shape_.group_channels(),
          source.const_data_ptr<float>(), to);
    } else {
      reorder_weights(
          shape_.out_channels, shape_.taps(), shape_.group_channels(),
          source.const_data_ptr<BFloat16>(), to);
    }
  }

  // Per level (B, C', H', W'), channels last.
  std::vector<Tensor> forward(const Tensor& bias) {
    std::vector<Tensor> outputs;
    for (const Operands<float>& level : levels_) {
      const DeformConvShape& shape = level.shape;
      outputs.push_back(empty_channels_last(
          kernels_, {shape.batch, shape.out_channels, shape.out_height, shape.out_width}));
    }
    for (int64_t first = 0; first < rows_; first += tile_) {
      const int64_t count = std::min(tile_, rows_ - first);
      const Tensor columns = columns_of(count);
      sample(first, count);
      const Tensor product =
          torch::stable::new_empty(kernels_, {shape_.groups, count, outputs_});
      bmm_out(product, columns, torch::stable::transpose(kernels_, 1, 2));
      write_outputs(product, first, count, bias.const_data_ptr<float>(), outputs);
    }
    return outputs;
  }

  std::vector<Gradients> backward(
      const std::vector<Tensor>& grad_outputs, const Needs& needs, const Tensor& weight) {
    const Tensor sums = levels_[0].zeros({shape_.groups, outputs_, column_});
    const Tensor grad_weight = levels_[0].empty(weight.sizes());
    std::vector<Gradients> grads;
    std::vector<LevelBack<float>> backs;
    for (const Operands<float>& level : levels_) {
      grads.push_back(level.zero_gradients(grad_weight));
      backs.push_back({&level, nullptr, {}});
    }
    for (int64_t first = 0; first < rows_; first += tile_) {
      const int64_t count = std::min(tile_, rows_ - first);
      const Tensor columns = columns_of(count);
      const Tensor grad_rows = rows_of(grad_outputs, first, count);
      if (needs.samples()) {
        bmm_out(columns, grad_rows, kernels_);  // their gradient, for now
        share_segments<float>(
            segments_for(shape_, kDepth), backs, grads,
            [&](const std::vector<LevelBack<float>>& own, const std::vector<Segment>& segments) {
              for (const Segment& segment : segments) {
                scatter(own, segment, first, count, needs);
              }
            });
      } else {
        sample(first, count);
      }
      if (needs.weight) add_kernels(grad_rows, columns, sums);
    }
    if (needs.weight) {
      reorder_weights(
          shape_.out_channels, shape_.group_channels(), shape_.taps(),
          sums.const_data_ptr<float>(), grad_weight.mutable_data_ptr<float>());
    }
    return grads;
  }

 private:
  // The columns of a tile: (groups, rows, taps * C / groups).
  Tensor columns_of(int64_t rows) {
    return torch::stable::view(
        torch::stable::narrow(buffer_, 0, 0, shape_.groups * rows * column_),
        {shape_.groups, rows, column_});
  }

  // Where the columns of one tap begin, for a row of a tile.
  BFloat16* column_at(const Segment& segment, int64_t row, int64_t rows, int64_t tap) const {
    const int64_t line = (segment.group * rows + row) * shape_.taps() + tap;
    const int64_t channel = segment.begin % shape_.group_channels();
    return buffer_.mutable_data_ptr<BFloat16>() + line * shape_.group_channels() + channel;
  }

  // Calls `run(level, row, count, first)` with pieces of the rows from `begin` to `end`, each of
  // kRows rows of a level or fewer; `first` counts from `begin`.
  template <typename F>
  void for_pieces(int64_t begin, int64_t end, const F& run) const {
    for (size_t i = 0; i < levels_.size(); ++i) {
      const int64_t stop = std::min(end, firsts_[i] + levels_[i].shape.rows());
      for (int64_t row = std::max(begin, firsts_[i]); row < stop; row += kRows) {
        run(i, row - firsts_[i], std::min(kRows, stop - row), row - begin);
      }
    }
  }

  void sample(int64_t first, int64_t rows) const {
    const std::vector<Segment> segments = split_channels(shape_, kDepth);
    torch::stable::parallel_for(0, rows, kLeastRows, [&](int64_t begin, int64_t end) {
      std::vector<Sample<float>> found(kRows);
      Buffer<float> some(kRows * kDepth), zeros(kDepth);
      for_pieces(first + begin, first + end, [&](size_t i, int64_t row, int64_t count, int64_t at) {
        const Operands<float>& in = levels_[i];
        for (const Segment& segment : segments) {
          for (int64_t tap = 0; tap < shape_.taps(); ++tap) {
            const Samples<float> samples{row, count, tap, segment.offset_group, found.data()};
            find_samples(in.shape, samples, in.offsets(), in.masks());
            gather_rows(
                samples, {pixels_[i].data + segment.begin, pixels_[i].stride},
                segment.channels(), zeros.data(), some.data(), kDepth);
            narrow_lines(
                some.data(), kDepth, count, segment.channels(),
                column_at(segment, begin + at, rows, tap), column_);
          }
        }
      });
    });
  }

  // From the gradient of a tile's columns, which the columns replace, for some channels.
  void scatter(
      const std::vector<LevelBack<float>>& levels, const Segment& segment, int64_t first,
      int64_t rows, const Needs& needs) const {
    std::vector<Sample<float>> found(kRows);
    Buffer<float> grads(kRows * kDepth), some(kRows * kDepth), products(kRows * 4);
    Buffer<float> zeros(kDepth), bin(kDepth);
    const int64_t channels = segment.channels();
    for_pieces(first, first + rows, [&](size_t i, int64_t row, int64_t count, int64_t at) {
      const Operands<float>& in = levels_[i];
      for (int64_t tap = 0; tap < shape_.taps(); ++tap) {
        const Samples<float> samples{row, count, tap, segment.offset_group, found.data()};
        find_samples(in.shape, samples, in.offsets(), in.masks());
        BFloat16* columns = column_at(segment, at, rows, tap);
        widen_lines(columns, column_, count, channels, grads.data(), kDepth);
        scatter_rows(
            samples, {pixels_[i].data + segment.begin, pixels_[i].stride}, channels,
            zeros.data(), grads.data(), some.data(), kDepth,
            levels[i].sums.pixels + segment.begin, shape_.channels, bin.data(), products.data());
        if (needs.weight) {
          narrow_lines(some.data(), kDepth, count, channels, columns, column_);
        }
        if (needs.positions) add_positions(in, samples, products.data(), levels[i].sums);
      }
    });
  }

  void write_outputs(
      const Tensor& product, int64_t first, int64_t rows, const float* bias,
      const std::vector<Tensor>& outputs) const {
    const BFloat16* from = product.const_data_ptr<BFloat16>();
    for_pieces(first, first + rows, [&](size_t i, int64_t row, int64_t count, int64_t at) {
      BFloat16* to = outputs[i].mutable_data_ptr<BFloat16>() + row * shape_.out_channels;
      for (int64_t group = 0; group < shape_.groups; ++group) {
        add_terms(
            from + (group * rows + at) * outputs_, outputs_, count, outputs_,
            bias + group * outputs_, to + group * outputs_, shape_.out_channels);
      }
    });
  }

  // The gradient of a tile's outputs: (groups, rows, C' / groups).
  Tensor rows_of(const std::vector<Tensor>& grad_outputs, int64_t first, int64_t rows) const {
    const int64_t channels = shape_.out_channels;
    const Tensor tile = torch::stable::new_empty(kernels_, {rows, shape_.groups, outputs_});
    BFloat16* to = tile.mutable_data_ptr<BFloat16>();
    std::vector<Tensor> sources;
    for (const Tensor& grad : grad_outputs) {
      sources.push_back(channels_last(torch::stable::to(grad, kTypeOf<BFloat16>)));
    }
    for_pieces(first, first + rows, [&](size_t i, int64_t row, int64_t count, int64_t at) {
      const BFloat16* from = sources[i].const_data_ptr<BFloat16>() + row * channels;
      std::copy_n(from, count * channels, to + at * channels);
    });
    Tensor groups = tile;
    return torch::stable::transpose(groups, 0, 1);
  }

  void add_kernels(const Tensor& grad_rows, const Tensor& columns, const Tensor& sums) const {
    const Tensor product = torch::stable::empty_like(kernels_);
    bmm_out(product, torch::stable::transpose(grad_rows, 1, 2), columns);
    const BFloat16* from = product.const_data_ptr<BFloat16>();
    float* to = sums.mutable_data_ptr<float>();
    torch::stable::parallel_for(0, product.numel(), kGrain, [&](int64_t begin, int64_t end) {
      add_numbers(from + begin, end - begin, to + begin);
    });
  }

  static constexpr int64_t kLeastRows = 8;  // fewer are not worth a thread

  const std::vector<Operands<float>>& levels_;
  const DeformConvShape shape_;  // of the first level; sizes of maps differ
  const int64_t outputs_, column_;  // C' / groups; numbers in a group's column
  const Tensor kernels_;  // (groups, C' / groups, taps * C / groups)
  std::vector<std::optional<Tensor>> copies_;  // what pixels_ point to
  std::vector<Pixels<float>> pixels_;
  std::vector<int64_t> firsts_;  // row of each level
  int64_t rows_ = 0, tile_ = 0;  // of all levels, and of a tile
  Tensor buffer_;  // for the columns of a tile
};

}  // namespace
}  // namespace d2ext
