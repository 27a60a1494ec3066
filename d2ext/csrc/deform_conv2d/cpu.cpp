// Deformable convolution on the CPU: tiles of rows (output locations) small enough for the cache
// are sampled into columns and multiplied by the weights, and never all columns exist at once.
// Threads share a tile by rows, or, where they add up gradients of pixels, by channels: the order
// of the sums, and so every bit of the result, is the same in each run.

#include <algorithm>
#include <optional>
#include <tuple>

#include "../stable.h"
#include "loops.h"

namespace d2ext {
namespace {

D2EXT_DEFORM_CONV2D_LOOPS(float)
D2EXT_DEFORM_CONV2D_LOOPS(double)

using torch::headeronly::ScalarType;
using Pair = std::vector<int64_t>;

constexpr int64_t kTileBytes = 4 << 20;  // of columns: what the last cache level of a core holds
constexpr int64_t kScatterChannels = 64;  // that one thread adds up at a time
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
void add_to(T* sum, const T* term, int64_t count) {
  torch::stable::parallel_for(0, count, kGrain, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) sum[i] += term[i];
  });
}

// One problem: its tensors, dense and of one type, and the buffers of one tile.
template <typename T>
class DeformConv {
 public:
  DeformConv(
      const DeformConvShape& shape, const Tensor& input, const Tensor& offset,
      const Tensor& weight, const std::optional<Tensor>& mask)
      : shape_(shape),
        input_(channels_last(input)),
        offset_(torch::stable::contiguous(offset)),
        weight_(channels_last(weight)),
        has_mask_(mask.has_value()),
        mask_(has_mask_ ? torch::stable::contiguous(*mask) : Tensor()),
        pixels_(input_.template const_data_ptr<T>()),
        zeros_(shape.channels),
        column_size_(shape.taps() * shape.group_channels()),
        tile_rows_(std::clamp<int64_t>(
            kTileBytes / int64_t(sizeof(T) * shape.taps() * shape.channels), 16,
            std::max<int64_t>(shape.rows(), 16))),
        row_grain_(1 + kGrain / (4 * shape.taps() * shape.channels)),
        samples_(std::min(tile_rows_, shape.rows()) * shape.row_samples()) {
    offset_data_ = offset_.template const_data_ptr<T>();
    mask_data_ = has_mask_ ? mask_.template const_data_ptr<T>() : nullptr;
    weight_ = torch::stable::view(weight_, {shape.groups, group_outputs(), column_size_});
  }

  // (B, H', W', C')
  Tensor forward(const std::optional<Tensor>& bias) {
    Tensor output = torch::stable::new_empty(
        input_, {shape_.batch, shape_.out_height, shape_.out_width, shape_.out_channels});
    Tensor rows = torch::stable::view(output, {shape_.rows(), shape_.out_channels});
    const std::vector<Segment> segments = split_channels(shape_, shape_.channels);
    for (int64_t first = 0; first < shape_.rows(); first += tile_rows_) {
      Tensor columns;
      const Tile<T> tile = sample_tile(first, segments, columns);
      for (int64_t group = 0; group < shape_.groups; ++group) {
        mm_out(
            part(rows, tile, group), torch::stable::select(columns, 0, group),
            torch::stable::transpose(torch::stable::select(weight_, 0, group), 0, 1));
      }
    }
    if (bias) add_bias(rows, torch::stable::contiguous(*bias));
    return output;
  }

  struct Gradients {
    Tensor input, offset, weight, mask;  // input (B, H, W, C), weight (C', kh, kw, C / groups)
  };

  // grad_output: (B, H', W', C'), contiguous.
  Gradients backward(const Tensor& grad_output) {
    Gradients grad{
        torch::stable::new_zeros(input_, input_.sizes()), torch::stable::empty_like(offset_),
        torch::stable::new_zeros(weight_, weight_.sizes()),
        has_mask_ ? torch::stable::empty_like(mask_) : torch::stable::new_empty(input_, {0})};
    Tensor rows = torch::stable::view(grad_output, {shape_.rows(), shape_.out_channels});
    Tensor product = torch::stable::new_empty(weight_, {group_outputs(), column_size_});
    const std::vector<Segment> segments = split_channels(shape_, shape_.channels);
    for (int64_t first = 0; first < shape_.rows(); first += tile_rows_) {
      Tensor columns, grad_columns;
      Tile<T> tile = sample_tile(first, segments, columns);
      grad_columns = torch::stable::empty_like(columns);
      tile.grad_columns = grad_columns.template mutable_data_ptr<T>();
      for (int64_t group = 0; group < shape_.groups; ++group) {
        const Tensor grad_rows = part(rows, tile, group);
        mm_out(
            torch::stable::select(grad_columns, 0, group), grad_rows,
            torch::stable::select(weight_, 0, group));
        mm_out(
            product, torch::stable::transpose(grad_rows, 0, 1),
            torch::stable::select(columns, 0, group));
        add_to(
            grad.weight.template mutable_data_ptr<T>() + group * product.numel(),
            product.template const_data_ptr<T>(), product.numel());
      }
      add_tile(tile, grad);
    }
    return grad;
  }

 private:
  int64_t group_outputs() const { return shape_.out_channels / shape_.groups; }

  void add_bias(const Tensor& rows, const Tensor& bias) const {
    T* data = rows.template mutable_data_ptr<T>();
    const T* terms = bias.template const_data_ptr<T>();
    const int64_t channels = shape_.out_channels;
    torch::stable::parallel_for(
        0, shape_.rows(), 1 + kGrain / channels, [&](int64_t begin, int64_t end) {
          for (int64_t row = begin; row < end; ++row) {
            for (int64_t c = 0; c < channels; ++c) data[row * channels + c] += terms[c];
          }
        });
  }

  // The tile's rows and the group's channels of (rows, C').
  Tensor part(Tensor& rows, const Tile<T>& tile, int64_t group) const {
    Tensor tile_rows = torch::stable::narrow(rows, 0, tile.first_row, tile.rows);
    return torch::stable::narrow(tile_rows, 1, group * group_outputs(), group_outputs());
  }

  Tile<T> sample_tile(int64_t first, const std::vector<Segment>& segments, Tensor& columns) {
    const int64_t count = std::min(tile_rows_, shape_.rows() - first);
    if (count != buffer_rows_) {
      buffer_ = torch::stable::new_empty(input_, {shape_.groups, count, column_size_});
      buffer_rows_ = count;
    }
    columns = buffer_;
    Tile<T> tile{first, count, samples_.data(), columns.template mutable_data_ptr<T>(), nullptr};
    torch::stable::parallel_for(0, count, row_grain_, [&](int64_t begin, int64_t end) {
      for (int64_t row = begin; row < end; ++row) {
        for (int64_t i = 0; i < shape_.row_samples(); ++i) {
          tile.samples[row * shape_.row_samples() + i] = read_sample(
              shape_, place_of(shape_, first + row, i), offset_data_, mask_data_);
        }
      }
      gather_rows(shape_, tile, segments, pixels_, zeros_.data(), begin, end);
    });
    return tile;
  }

  // Adds the tile's gradient of the columns to those of the pixels, and sets those of its offsets
  // and masks.
  void add_tile(const Tile<T>& tile, Gradients& grad) {
    const std::vector<Segment> segments = split_channels(shape_, kScatterChannels);
    const int64_t lines = tile.rows * shape_.taps(), count = int64_t(segments.size());
    products_.resize(count * lines * 4);
    T* grad_pixels = grad.input.template mutable_data_ptr<T>();
    torch::stable::parallel_for(0, count, 1, [&](int64_t begin, int64_t end) {
      std::vector<T> bin(kScatterChannels);
      for (int64_t i = begin; i < end; ++i) {
        scatter_rows(
            shape_, tile, segments[i], pixels_, zeros_.data(), grad_pixels, bin.data(),
            products_.data() + i * lines * 4, 0, tile.rows);
      }
    });
    finish_positions(tile, segments, grad);
  }

  void finish_positions(
      const Tile<T>& tile, const std::vector<Segment>& segments, Gradients& grad) {
    const int64_t lines = tile.rows * shape_.taps();
    const int64_t plane = shape_.out_height * shape_.out_width;
    T* grad_offset = grad.offset.template mutable_data_ptr<T>();
    T* grad_mask = mask_data_ ? grad.mask.template mutable_data_ptr<T>() : nullptr;
    torch::stable::parallel_for(0, tile.rows, row_grain_, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin * shape_.row_samples(); i < end * shape_.row_samples(); ++i) {
        const int64_t line = i / shape_.offset_groups, group = i % shape_.offset_groups;
        T product[4] = {0, 0, 0, 0};
        for (size_t s = 0; s < segments.size(); ++s) {
          if (segments[s].offset_group != group) continue;
          for (int c = 0; c < 4; ++c) product[c] += products_[(s * lines + line) * 4 + c];
        }
        const Sample<T>& sample = tile.samples[i];
        T by_mask = 0, by_y = 0, by_x = 0;
        for (int c = 0; c < 4; ++c) {
          by_mask += sample.weight[c] * product[c];
          by_y += sample.slope_y[c] * product[c];
          by_x += sample.slope_x[c] * product[c];
        }
        const int64_t row = i / shape_.row_samples();
        const SamplePlace place =
            place_of(shape_, tile.first_row + row, i % shape_.row_samples());
        grad_offset[place.offset_index] = by_y * sample.mask;
        grad_offset[place.offset_index + plane] = by_x * sample.mask;
        if (grad_mask) grad_mask[place.mask_index] = by_mask;
      }
    });
  }

  const DeformConvShape shape_;
  Tensor input_, offset_, weight_;
  const bool has_mask_;
  Tensor mask_;
  const T* pixels_;
  const T* offset_data_;
  const T* mask_data_;
  std::vector<T> zeros_;
  const int64_t column_size_, tile_rows_, row_grain_;
  std::vector<Sample<T>> samples_;
  std::vector<T> products_;
  Tensor buffer_;
  int64_t buffer_rows_ = -1;
};

// Half types are computed in float.
ScalarType computed_in(const Tensor& input) {
  return input.scalar_type() == ScalarType::Double ? ScalarType::Double : ScalarType::Float;
}

std::optional<Tensor> cast(const std::optional<Tensor>& tensor, ScalarType type) {
  return tensor ? std::optional(torch::stable::to(*tensor, type)) : std::nullopt;
}

Tensor deform_conv2d(
    const Tensor& input, const Tensor& offset, const Tensor& weight,
    const std::optional<Tensor>& bias, const std::optional<Tensor>& mask, const Pair& stride,
    const Pair& padding, const Pair& dilation) {
  const DeformConvShape shape = shape_of(input, offset, weight, stride, padding, dilation);
  const ScalarType type = computed_in(input);
  const auto run = [&](auto zero) {
    DeformConv<decltype(zero)> problem(
        shape, *cast(input, type), *cast(offset, type), *cast(weight, type), cast(mask, type));
    return problem.forward(cast(bias, type));
  };
  const Tensor output = type == ScalarType::Double ? run(0.0) : run(0.0f);
  return channels_first(torch::stable::to(output, input.scalar_type()));
}

std::tuple<Tensor, Tensor, Tensor, Tensor> deform_conv2d_backward(
    const Tensor& grad_output, const Tensor& input, const Tensor& offset, const Tensor& weight,
    const std::optional<Tensor>& mask, const Pair& stride, const Pair& padding,
    const Pair& dilation) {
  const DeformConvShape shape = shape_of(input, offset, weight, stride, padding, dilation);
  const ScalarType type = computed_in(input), result = input.scalar_type();
  const auto run = [&](auto zero) {
    DeformConv<decltype(zero)> problem(
        shape, *cast(input, type), *cast(offset, type), *cast(weight, type), cast(mask, type));
    auto grad = problem.backward(channels_last(*cast(grad_output, type)));
    const Tensor grad_weight = torch::stable::view(
        grad.weight,
        {weight.size(0), shape.kernel_height, shape.kernel_width, shape.group_channels()});
    return std::make_tuple(
        channels_first(torch::stable::to(grad.input, result)),
        torch::stable::to(grad.offset, result),
        torch::stable::contiguous(channels_first(torch::stable::to(grad_weight, result))),
        torch::stable::to(grad.mask, result));
  };
  return type == ScalarType::Double ? run(0.0) : run(0.0f);
}

STABLE_TORCH_LIBRARY_IMPL(d2ext, CPU, library) {
  library.impl("deform_conv2d", TORCH_BOX(&deform_conv2d));
  library.impl("deform_conv2d_backward", TORCH_BOX(&deform_conv2d_backward));
}

}  // namespace
}  // namespace d2ext
