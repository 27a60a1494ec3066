// Deformable convolution on the CPU: tiles of rows (output locations) small enough for the cache
// are sampled into columns and multiplied by the weights, and never all columns exist at once.
// Threads share a tile by rows, or, where they add up gradients of pixels, by channels: with as
// many threads, every run gives the same bits.

#include <algorithm>
#include <optional>
#include <tuple>

#include "../stable.h"
#include "loops.h"

namespace d2ext {
namespace {

using torch::headeronly::BFloat16;
using torch::headeronly::ScalarType;
using Pair = std::vector<int64_t>;

D2EXT_DEFORM_CONV2D_LOOPS(float, float)
D2EXT_DEFORM_CONV2D_LOOPS(float, BFloat16)
D2EXT_DEFORM_CONV2D_LOOPS(double, double)

constexpr int64_t kTileBytes = 4 << 20;  // of columns: what the last cache level of a core holds
constexpr int64_t kLeastChannels = 32;  // worth a thread that adds up gradients of pixels
constexpr int64_t kGrain = 1 << 15;  // multiplications worth a thread

DeformConvShape shape_of(
    const Tensor& input, const Tensor& offset, const Tensor& weight, const Pair& stride,
    const Pair& padding, const Pair& dilation) {
  DeformConvShape shape{};
  shape.batch = input.size(0), shape.channels = input.size(1);
  shape.height = input.size(2), shape.width = input.size(3);
  shape.out_channels = weight.size(0);
  shape.out_height = offset.size(2), shape.out_width = offset.size(3);
  shape.kernel_height = weight.size(2), shape.kernel_width = weight.size(3);
  shape.groups = shape.channels / weight.size(1);
  shape.offset_groups = offset.size(1) / (2 * shape.taps());
  for (int axis = 0; axis < 2; ++axis) {
    shape.stride[axis] = stride[axis];
    shape.padding[axis] = padding[axis];
    shape.dilation[axis] = dilation[axis];
  }
  return shape;
}

template <typename T>
constexpr ScalarType kTypeOf = torch::headeronly::CppTypeToScalarType<T>::value;

template <typename T, typename S>
void add_to(T* sum, const S* term, int64_t count) {
  torch::stable::parallel_for(0, count, kGrain, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) sum[i] += load(term + i);
  });
}

// Adds one row to each of the rows.
template <typename T, typename S>
void add_bias(S* rows, const T* bias, int64_t count, int64_t channels) {
  torch::stable::parallel_for(0, count, 1 + kGrain / channels, [&](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; ++row) {
      for (int64_t c = 0; c < channels; ++c) {
        S* value = rows + row * channels + c;
        store(value, load(value) + bias[c]);
      }
    }
  });
}

// One problem: its tensors and the buffers of a tile. Samples and sums are in T, what goes into
// matrix products in S.
template <typename T, typename S>
class DeformConv {
 public:
  DeformConv(
      const DeformConvShape& shape, const Tensor& input, const Tensor& offset,
      const Tensor& weight, const std::optional<Tensor>& mask)
      : shape_(shape),
        pixels_(channels_last(torch::stable::to(input, kTypeOf<T>))),
        offsets_(torch::stable::contiguous(torch::stable::to(offset, kTypeOf<T>))),
        zeros_(shape.channels) {
    if (mask) masks_ = torch::stable::contiguous(torch::stable::to(*mask, kTypeOf<T>));
    outputs_ = shape.out_channels / shape.groups;
    column_ = shape.taps() * shape.group_channels();
    kernels_ = torch::stable::view(
        channels_last(torch::stable::to(weight, kTypeOf<S>)), {shape.groups, outputs_, column_});
    const int64_t most_rows =
        std::max<int64_t>(kTileBytes / int64_t(sizeof(S)) / (shape.groups * column_), 16);
    const int64_t tiles = std::max<int64_t>((shape.rows() + most_rows - 1) / most_rows, 1);
    tile_rows_ = (shape.rows() + tiles - 1) / tiles;
    row_grain_ = 1 + kGrain / (4 * shape.groups * column_);
    samples_.resize(tile_rows_ * shape.row_samples());
  }

  // (B, H', W', C') in S
  Tensor forward(const std::optional<Tensor>& bias) {
    const Tensor output = torch::stable::new_empty(
        kernels_, {shape_.batch, shape_.out_height, shape_.out_width, shape_.out_channels});
    Tensor rows = torch::stable::view(output, {shape_.rows(), shape_.out_channels});
    const Tensor buffer = new_columns();
    for (int64_t first = 0; first < shape_.rows(); first += tile_rows_) {
      const int64_t count = std::min(tile_rows_, shape_.rows() - first);
      const Tensor columns = first_rows(buffer, count);
      sample(tile_of(first, count, columns, columns));
      for (int64_t group = 0; group < shape_.groups; ++group) {
        const Tensor kernel = torch::stable::select(kernels_, 0, group);
        mm_out(
            part(rows, first, count, group), torch::stable::select(columns, 0, group),
            torch::stable::transpose(kernel, 0, 1));
      }
    }
    if (bias) {
      const Tensor terms = torch::stable::contiguous(torch::stable::to(*bias, kTypeOf<T>));
      add_bias(
          rows.template mutable_data_ptr<S>(), terms.template const_data_ptr<T>(), shape_.rows(),
          shape_.out_channels);
    }
    return output;
  }

  struct Gradients {
    Tensor pixels;  // (B, H, W, C)
    Tensor offsets;  // like offset
    Tensor kernels;  // (groups, C' / groups, taps * C / groups)
    Tensor masks;  // like mask, or empty
  };

  // All in T.
  Gradients backward(const Tensor& grad_output) {
    Gradients grads{
        torch::stable::new_zeros(pixels_, pixels_.sizes()), torch::stable::empty_like(offsets_),
        torch::stable::new_zeros(kernels_, kernels_.sizes(), kTypeOf<T>),
        masks_ ? torch::stable::empty_like(*masks_) : torch::stable::new_empty(pixels_, {0})};
    Tensor grad_rows = torch::stable::view(
        channels_last(torch::stable::to(grad_output, kTypeOf<S>)),
        {shape_.rows(), shape_.out_channels});
    const Tensor buffer = new_columns(), grad_buffer = new_columns();
    for (int64_t first = 0; first < shape_.rows(); first += tile_rows_) {
      const int64_t count = std::min(tile_rows_, shape_.rows() - first);
      const Tensor columns = first_rows(buffer, count);
      const Tensor grad_columns = first_rows(grad_buffer, count);
      const Tile<T, S> tile = tile_of(first, count, columns, grad_columns);
      sample(tile);
      for (int64_t group = 0; group < shape_.groups; ++group) {
        multiply_back(
            part(grad_rows, first, count, group), torch::stable::select(columns, 0, group),
            torch::stable::select(grad_columns, 0, group), group, grads.kernels);
      }
      sample_back(tile, grads);
    }
    return grads;
  }

 private:
  // ---- tiles

  Tensor new_columns() const {
    return torch::stable::new_empty(kernels_, {shape_.groups * tile_rows_ * column_});
  }

  // The columns of a tile that may have fewer rows than others.
  Tensor first_rows(Tensor buffer, int64_t count) const {
    const Tensor used = torch::stable::narrow(buffer, 0, 0, shape_.groups * count * column_);
    return torch::stable::view(used, {shape_.groups, count, column_});
  }

  Tile<T, S> tile_of(
      int64_t first, int64_t count, const Tensor& columns, const Tensor& grad_columns) {
    return {
        first, count, samples_.data(), columns.template mutable_data_ptr<S>(),
        grad_columns.template mutable_data_ptr<S>()};
  }

  // Some rows and one group's channels of (rows, C').
  Tensor part(Tensor& rows, int64_t first, int64_t count, int64_t group) const {
    Tensor some = torch::stable::narrow(rows, 0, first, count);
    return torch::stable::narrow(some, 1, group * outputs_, outputs_);
  }

  // ---- forward

  // Finds the tile's samples and fills its columns.
  void sample(const Tile<T, S>& tile) const {
    const T* offsets = offsets_.template const_data_ptr<T>();
    const T* masks = masks_ ? masks_->template const_data_ptr<T>() : nullptr;
    const T* pixels = pixels_.template const_data_ptr<T>();
    const std::vector<Segment> segments = split_channels(shape_, shape_.channels);
    torch::stable::parallel_for(0, tile.rows, row_grain_, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin * shape_.row_samples(); i < end * shape_.row_samples(); ++i) {
        tile.samples[i] = read_sample(shape_, place(tile, i), offsets, masks);
      }
      gather_rows(shape_, tile, segments, pixels, zeros_.data(), begin, end);
    });
  }

  SamplePlace place(const Tile<T, S>& tile, int64_t sample) const {
    const int64_t row = tile.first_row + sample / shape_.row_samples();
    return place_of(shape_, row, sample % shape_.row_samples());
  }

  // ---- backward

  // Sets the gradient of one group's columns and adds to that of its kernels.
  void multiply_back(
      const Tensor& grad_rows, const Tensor& columns, const Tensor& grad_columns, int64_t group,
      const Tensor& grad_kernels) const {
    mm_out(grad_columns, grad_rows, torch::stable::select(kernels_, 0, group));
    const Tensor product = torch::stable::new_empty(kernels_, {outputs_, column_});
    mm_out(product, torch::stable::transpose(grad_rows, 0, 1), columns);
    T* sum = grad_kernels.template mutable_data_ptr<T>() + group * product.numel();
    add_to(sum, product.template const_data_ptr<S>(), product.numel());
  }

  // From the gradient of the tile's columns to those of pixels, offsets and masks.
  void sample_back(const Tile<T, S>& tile, const Gradients& grads) const {
    const int64_t threads = torch::stable::get_num_threads();
    const int64_t most = std::max(kLeastChannels, (shape_.channels + threads - 1) / threads);
    const std::vector<Segment> segments = split_channels(shape_, most);
    const int64_t lines = tile.rows * shape_.taps(), count = int64_t(segments.size());
    std::vector<T> products(count * lines * 4);
    const T* pixels = pixels_.template const_data_ptr<T>();
    T* grad_pixels = grads.pixels.template mutable_data_ptr<T>();
    torch::stable::parallel_for(0, count, 1, [&](int64_t begin, int64_t end) {
      std::vector<T> bin(most);
      for (int64_t i = begin; i < end; ++i) {
        scatter_rows(
            shape_, tile, segments[i], pixels, zeros_.data(), grad_pixels, bin.data(),
            products.data() + i * lines * 4, 0, tile.rows);
      }
    });
    set_position_gradients(tile, segments, products, grads);
  }

  void set_position_gradients(
      const Tile<T, S>& tile, const std::vector<Segment>& segments,
      const std::vector<T>& products, const Gradients& grads) const {
    const int64_t lines = tile.rows * shape_.taps();
    const int64_t plane = shape_.out_height * shape_.out_width;
    T* grad_offsets = grads.offsets.template mutable_data_ptr<T>();
    T* grad_masks = masks_ ? grads.masks.template mutable_data_ptr<T>() : nullptr;
    torch::stable::parallel_for(0, tile.rows, row_grain_, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin * shape_.row_samples(); i < end * shape_.row_samples(); ++i) {
        const int64_t line = i / shape_.offset_groups, group = i % shape_.offset_groups;
        T sums[4] = {0, 0, 0, 0};
        for (size_t s = 0; s < segments.size(); ++s) {
          if (segments[s].offset_group != group) continue;
          for (int c = 0; c < 4; ++c) sums[c] += products[(s * lines + line) * 4 + c];
        }
        const SampleGradient<T> gradient = sample_gradient(tile.samples[i], sums);
        const SamplePlace at = place(tile, i);
        grad_offsets[at.offset_index] = gradient.y;
        grad_offsets[at.offset_index + plane] = gradient.x;
        if (grad_masks) grad_masks[at.mask_index] = gradient.mask;
      }
    });
  }

  const DeformConvShape shape_;
  const Tensor pixels_, offsets_;
  std::optional<Tensor> masks_;
  Tensor kernels_;
  std::vector<T> zeros_;
  std::vector<Sample<T>> samples_;
  int64_t outputs_, column_;  // C' / groups; numbers in a group's column
  int64_t tile_rows_, row_grain_;
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

// Gradients of input, offset, weight and mask, the last one empty without a mask.
std::tuple<Tensor, Tensor, Tensor, Tensor> deform_conv2d_backward(
    const Tensor& grad_output, const Tensor& input, const Tensor& offset, const Tensor& weight,
    const std::optional<Tensor>& mask, const Pair& stride, const Pair& padding,
    const Pair& dilation) {
  const DeformConvShape shape = shape_of(input, offset, weight, stride, padding, dilation);
  return with_types(input.scalar_type(), [&](auto t, auto s) {
    DeformConv<decltype(t), decltype(s)> problem(shape, input, offset, weight, mask);
    const auto grads = problem.backward(grad_output);
    const Tensor grad_weight = torch::stable::view(
        grads.kernels,
        {weight.size(0), shape.kernel_height, shape.kernel_width, shape.group_channels()});
    return std::make_tuple(
        channels_first(torch::stable::to(grads.pixels, input.scalar_type())),
        torch::stable::to(grads.offsets, offset.scalar_type()),
        torch::stable::contiguous(
            channels_first(torch::stable::to(grad_weight, weight.scalar_type()))),
        torch::stable::to(grads.masks, mask ? mask->scalar_type() : input.scalar_type()));
  });
}

STABLE_TORCH_LIBRARY_IMPL(d2ext, CPU, library) {
  library.impl("deform_conv2d", TORCH_BOX(&deform_conv2d));
  library.impl("deform_conv2d_backward", TORCH_BOX(&deform_conv2d_backward));
}

}  // namespace
}  // namespace d2ext
