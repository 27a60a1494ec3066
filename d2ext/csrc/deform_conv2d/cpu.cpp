// Deformable convolution on the CPU: tiles of rows (output locations) small enough for the cache
// are sampled into columns and multiplied by the weights, and never all columns exist at once.
// Threads share a tile by rows, or, where they add up gradients of pixels, by channels: with as
// many threads, every run gives the same bits.

#include <algorithm>
#include <optional>

#include "loops.h"
#include "problem.h"
#include "products.h"

namespace d2ext {
namespace {

using torch::headeronly::BFloat16;
using torch::headeronly::ScalarType;

D2EXT_DEFORM_CONV2D_LOOPS(float, float)
D2EXT_DEFORM_CONV2D_LOOPS(float, BFloat16)
D2EXT_DEFORM_CONV2D_LOOPS(double, double)

constexpr int64_t kTileBytes = 4 << 20;  // of columns: within the last cache level
constexpr int64_t kLeastChannels = 32;  // worth a thread that adds up gradients of pixels
constexpr int64_t kSliceChannels = 64;  // worth a pass of their own to save memory
constexpr int64_t kGrain = 1 << 15;  // multiplications worth a thread

template <typename T>
constexpr ScalarType kTypeOf = torch::headeronly::CppTypeToScalarType<T>::value;

// One problem. Samples and sums are in T, what goes into matrix products in S.
template <typename T, typename S>
class DeformConv {
 public:
  DeformConv(
      const DeformConvShape& shape, const Tensor& input, const Tensor& offset,
      const Tensor& weight, const std::optional<Tensor>& mask)
      : shape_(shape),
        input_(input),
        offsets_(torch::stable::contiguous(torch::stable::to(offset, kTypeOf<T>))),
        weight_(torch::stable::to(weight, kTypeOf<S>)),
        zeros_(shape.channels) {
    if (mask) masks_ = torch::stable::contiguous(torch::stable::to(*mask, kTypeOf<T>));
  }

  // (B, H', W', C') in S
  Tensor forward(const std::optional<Tensor>& bias) {
    const Tensor output = torch::stable::new_empty(
        weight_, {shape_.batch, shape_.out_height, shape_.out_width, shape_.out_channels});
    const Tensor rows = torch::stable::view(output, {shape_.rows(), shape_.out_channels});
    std::optional<Tensor> terms;
    if (bias) terms = torch::stable::to(*bias, kTypeOf<S>);
    Pass pass(*this, 0, shape_.channels);
    for (int64_t first = 0; first < shape_.rows(); first += pass.tile_rows) {
      const Tensor columns = sample(pass, first);
      Tensor part = some_rows(rows, first, columns.size(0));
      torch::stable::copy_(part, multiply(columns, pass.kernels, terms, shape_.groups));
    }
    return output;
  }

  // In T.
  Gradients backward(const Tensor& grad_output) {
    const Tensor grad_rows = torch::stable::view(
        channels_last(torch::stable::to(grad_output, kTypeOf<S>)),
        {shape_.rows(), shape_.out_channels});
    Gradients grads = zero_gradients();
    const int64_t most = slice_channels();
    for (int64_t begin = 0; begin < shape_.channels; begin += most) {
      Pass pass(*this, begin, std::min(begin + most, shape_.channels));
      for (int64_t first = 0; first < shape_.rows(); first += pass.tile_rows) {
        const Tensor columns = sample(pass, first);
        const auto [grad_columns, grad_kernels] = multiply_backward(
            some_rows(grad_rows, first, columns.size(0)), columns, pass.kernels, shape_.groups);
        add_kernels(pass, grad_kernels, grads);
        sample_back(pass, tile_of(first, grad_columns), grads);
      }
    }
    return grads;
  }

 private:
  // A pass over all rows, with some of the channels.
  struct Pass {
    Pass(DeformConv& problem, int64_t begin, int64_t end)
        : pixels(problem.pixels_of(begin, end)),
          kernels(problem.kernels_of(begin, end)),
          slice{begin, end, pixels.template const_data_ptr<S>(), pixels.size(3)},
          tile_rows(problem.tile_rows(kernels.size(1) * problem.shape_.groups)),
          buffer(torch::stable::new_empty(
              kernels, {tile_rows, kernels.size(1) * problem.shape_.groups})) {
      problem.samples_.resize(tile_rows * problem.shape_.row_samples());
    }

    const Tensor pixels, kernels;  // (B, H, W, channels), (C', taps * channels of a group, 1, 1)
    const Slice<S> slice;
    const int64_t tile_rows;
    const Tensor buffer;  // for the columns of a tile
  };

  // ---- parts

  Tensor pixels_of(int64_t begin, int64_t end) {
    const Tensor channels = torch::stable::narrow(input_, 1, begin, end - begin);
    return channels_last(torch::stable::to(channels, kTypeOf<S>));
  }

  Tensor kernels_of(int64_t begin, int64_t end) {
    const int64_t all = shape_.group_channels(), count = std::min(end - begin, all);
    const Tensor some = torch::stable::narrow(weight_, 1, begin % all, count);
    return torch::stable::view(
        channels_last(some), {shape_.out_channels, shape_.taps() * count, 1, 1});
  }

  // Tiles of about the same size, in multiples of what divides well.
  int64_t tile_rows(int64_t column) const {
    const int64_t most = std::max<int64_t>(kTileBytes / int64_t(sizeof(S)) / column, kImages);
    const int64_t tiles = std::max<int64_t>((shape_.rows() + most - 1) / most, 1);
    const int64_t rows = (shape_.rows() + tiles - 1) / tiles;
    return (rows + kImages - 1) / kImages * kImages;
  }

  // Channels to work on at a time. A copy of the input in channels-last order is as large as the
  // input, so it is made of some channels only, where they can be told apart.
  int64_t slice_channels() const {
    const bool copied = input_.scalar_type() != kTypeOf<S> ||
        !reordered(input_, {0, 2, 3, 1}).is_contiguous();
    if (!copied || shape_.groups > 1) return shape_.channels;
    const int64_t threads = torch::stable::get_num_threads();
    return std::max(kSliceChannels, threads * kLeastChannels);
  }

  static Tensor some_rows(Tensor rows, int64_t first, int64_t count) {
    return torch::stable::narrow(rows, 0, first, count);
  }

  Tile<T, S> tile_of(int64_t first, const Tensor& columns) {
    return {first, columns.size(0), samples_.data(), columns.template mutable_data_ptr<S>()};
  }

  SamplePlace place(const Tile<T, S>& tile, int64_t sample) const {
    const int64_t row = tile.first_row + sample / shape_.row_samples();
    return place_of(shape_, row, sample % shape_.row_samples());
  }

  // Rows that are worth a thread.
  int64_t row_grain(const Pass& pass) const {
    return 1 + kGrain / (4 * shape_.taps() * pass.slice.channels());
  }

  // ---- forward

  // Finds a tile's samples and returns its columns.
  Tensor sample(Pass& pass, int64_t first) {
    const int64_t rows = std::min(pass.tile_rows, shape_.rows() - first);
    const Tensor columns = some_rows(pass.buffer, 0, rows);
    const Tile<T, S> tile = tile_of(first, columns);
    const T* offsets = offsets_.template const_data_ptr<T>();
    const T* masks = masks_ ? masks_->template const_data_ptr<T>() : nullptr;
    const std::vector<Segment> segments = split_channels(shape_, pass.slice, shape_.channels);
    torch::stable::parallel_for(0, rows, row_grain(pass), [&](int64_t begin, int64_t end) {
      for (int64_t i = begin * shape_.row_samples(); i < end * shape_.row_samples(); ++i) {
        tile.samples[i] = read_sample(shape_, place(tile, i), offsets, masks);
      }
      gather_rows(shape_, pass.slice, tile, segments, zeros_.data(), begin, end);
    });
    return columns;
  }

  // ---- backward

  Gradients zero_gradients() const {
    const auto zeros = [&](const Pair& size) { return torch::stable::new_zeros(offsets_, size); };
    const auto zeros_like = [](const Tensor& tensor) {
      return torch::stable::new_zeros(tensor, tensor.sizes());
    };
    return {
        zeros({shape_.batch, shape_.height, shape_.width, shape_.channels}), zeros_like(offsets_),
        zeros({shape_.out_channels, shape_.taps(), shape_.group_channels()}),
        masks_ ? zeros_like(*masks_) : zeros({0})};
  }

  void add_kernels(const Pass& pass, const Tensor& terms, const Gradients& grads) const {
    const int64_t lines = shape_.out_channels * shape_.taps(), all = shape_.group_channels();
    const int64_t count = std::min(pass.slice.channels(), all);
    T* sums = grads.kernels.template mutable_data_ptr<T>() + pass.slice.begin % all;
    const S* from = terms.template const_data_ptr<S>();
    torch::stable::parallel_for(0, lines, 1 + kGrain / count, [&](int64_t begin, int64_t end) {
      for (int64_t line = begin; line < end; ++line) {
        for (int64_t c = 0; c < count; ++c) sums[line * all + c] += load(from + line * count + c);
      }
    });
  }

  // From the gradient of a tile's columns to those of pixels, offsets and masks.
  void sample_back(const Pass& pass, const Tile<T, S>& tile, const Gradients& grads) const {
    const int64_t threads = torch::stable::get_num_threads();
    const int64_t share = (pass.slice.channels() + threads - 1) / threads;
    const int64_t most = std::max(kLeastChannels, share);
    const std::vector<Segment> segments = split_channels(shape_, pass.slice, most);
    const int64_t lines = tile.rows * shape_.taps(), count = int64_t(segments.size());
    std::vector<T> products(count * lines * 4);
    T* grad_pixels = grads.pixels.template mutable_data_ptr<T>();
    torch::stable::parallel_for(0, count, 1, [&](int64_t begin, int64_t end) {
      std::vector<T> bin(most);
      for (int64_t i = begin; i < end; ++i) {
        scatter_rows(
            shape_, pass.slice, tile, segments[i], zeros_.data(), grad_pixels, bin.data(),
            products.data() + i * lines * 4);
      }
    });
    add_positions(pass, tile, segments, products, grads);
  }

  void add_positions(
      const Pass& pass, const Tile<T, S>& tile, const std::vector<Segment>& segments,
      const std::vector<T>& products, const Gradients& grads) const {
    const int64_t lines = tile.rows * shape_.taps();
    const int64_t plane = shape_.out_height * shape_.out_width;
    T* grad_offsets = grads.offsets.template mutable_data_ptr<T>();
    T* grad_masks = masks_ ? grads.masks.template mutable_data_ptr<T>() : nullptr;
    torch::stable::parallel_for(0, tile.rows, row_grain(pass), [&](int64_t begin, int64_t end) {
      for (int64_t i = begin * shape_.row_samples(); i < end * shape_.row_samples(); ++i) {
        const int64_t line = i / shape_.offset_groups, group = i % shape_.offset_groups;
        T sums[4] = {0, 0, 0, 0};
        for (size_t s = 0; s < segments.size(); ++s) {
          if (segments[s].offset_group != group) continue;
          for (int c = 0; c < 4; ++c) sums[c] += products[(s * lines + line) * 4 + c];
        }
        const SampleGradient<T> gradient = sample_gradient(tile.samples[i], sums);
        const SamplePlace at = place(tile, i);
        grad_offsets[at.offset_index] += gradient.y;
        grad_offsets[at.offset_index + plane] += gradient.x;
        if (grad_masks) grad_masks[at.mask_index] += gradient.mask;
      }
    });
  }

  const DeformConvShape shape_;
  Tensor input_;
  const Tensor offsets_;
  Tensor weight_;
  std::optional<Tensor> masks_;
  const std::vector<S> zeros_;
  std::vector<Sample<T>> samples_;  // of a tile
};

// Calls run with zeros of the types to compute in and to multiply in.
template <typename F>
auto with_types(ScalarType type, const F& run) {
  if (type == ScalarType::Double) return run(0.0, 0.0);
  if (type == ScalarType::BFloat16) return run(0.0f, BFloat16());
  return run(0.0f, 0.0f);  // float; also half, which few CPUs multiply
}

Tensor deform_conv2d(
    const Tensor& input, const Tensor& offset, const Tensor& weight,
    const std::optional<Tensor>& bias, const std::optional<Tensor>& mask, const Pair& stride,
    const Pair& padding, const Pair& dilation) {
  const DeformConvShape shape = shape_of(input, offset, weight, stride, padding, dilation);
  const Tensor output = with_types(input.scalar_type(), [&](auto t, auto s) {
    return DeformConv<decltype(t), decltype(s)>(shape, input, offset, weight, mask).forward(bias);
  });
  return channels_first(torch::stable::to(output, input.scalar_type()));
}

FourTensors deform_conv2d_backward(
    const Tensor& grad_output, const Tensor& input, const Tensor& offset, const Tensor& weight,
    const std::optional<Tensor>& mask, const Pair& stride, const Pair& padding,
    const Pair& dilation) {
  const DeformConvShape shape = shape_of(input, offset, weight, stride, padding, dilation);
  const Gradients grads = with_types(input.scalar_type(), [&](auto t, auto s) {
    return DeformConv<decltype(t), decltype(s)>(shape, input, offset, weight, mask)
        .backward(grad_output);
  });
  return grads.like(input, offset, weight, mask);
}

STABLE_TORCH_LIBRARY_IMPL(d2ext, CPU, library) {
  library.impl("deform_conv2d", TORCH_BOX(&deform_conv2d));
  library.impl("deform_conv2d_backward", TORCH_BOX(&deform_conv2d_backward));
}

}  // namespace
}  // namespace d2ext
