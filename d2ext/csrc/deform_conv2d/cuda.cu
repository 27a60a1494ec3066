// Deformable convolution on CUDA. Tiles of rows (output locations) are sampled into columns, which
// cuBLAS multiplies by the weights; the columns of all rows never exist at once. Gradients of
// pixels are summed by atomics, in float or double.

#include "kernels.h"
#include "problem.h"

namespace d2ext {
namespace {

constexpr int64_t kTileBytes = 32 << 20;  // columns of a tile: few enough for the L2 cache
constexpr int64_t kRowBlock = 128;  // tiles are multiples of the blocks that matrix products use
constexpr int64_t kPackBytes = 16;  // read and written at once: the widest load of a thread

template <typename T>
class DeformConv {
 public:
  DeformConv(
      const DeformConvShape& shape, const Tensor& input, const Tensor& offset,
      const Tensor& weight, const std::optional<Tensor>& mask)
      : shape_(shape), device_(input), pixels_(channels_last(input)), offsets_(wide(offset)) {
    if (mask) masks_ = wide(*mask);
    outputs_ = shape.out_channels / shape.groups;
    column_ = shape.taps() * shape.group_channels();
    const Tensor cast = torch::stable::to(weight, pixels_.scalar_type());
    kernels_ = torch::stable::view(channels_last(cast), {shape.groups, outputs_, column_});
    const int64_t most = kTileBytes / int64_t(sizeof(T)) / (shape.groups * column_);
    tile_rows_ = std::max<int64_t>(most / kRowBlock, 1) * kRowBlock;
    tile_rows_ = std::min(tile_rows_, shape.rows());
    buffer_ = torch::stable::new_empty(pixels_, {shape.groups * tile_rows_ * column_});
  }

  // (B, C', H', W'), channels last
  Tensor forward(const std::optional<Tensor>& bias) {
    const Tensor output = empty_channels_last(
        pixels_, {shape_.batch, shape_.out_channels, shape_.out_height, shape_.out_width});
    const Tensor rows =
        torch::stable::view(channels_last(output), {shape_.rows(), shape_.out_channels});
    for (int64_t first = 0; first < shape_.rows(); first += tile_rows_) {
      const Tensor columns = sample(first);
      bmm_out(
          tile_of(rows, first, columns.size(1)), columns,
          torch::stable::transpose(kernels_, 1, 2));
    }
    if (bias) {
      const Tensor terms =
          torch::stable::contiguous(torch::stable::to(*bias, output.scalar_type()));
      add_bias<T><<<blocks_for(output.numel(), kThreads), kThreads, 0, device_.stream()>>>(
          output.numel(), shape_.out_channels, terms.template const_data_ptr<T>(),
          output.template mutable_data_ptr<T>());
      check_launch();
    }
    return output;
  }

  // In Wide<T>. What is not needed is not written, and empty where that saves memory.
  Gradients backward(const Tensor& grad_output, const Needs& needs) {
    const Tensor grad_rows = torch::stable::view(
        channels_last(grad_output), {shape_.rows(), shape_.out_channels});
    const Tensor kernels = torch::stable::new_zeros(
        offsets_, {shape_.out_channels, shape_.kernel_height, shape_.kernel_width,
                   shape_.group_channels()});
    const Gradients grads{
        needs.input ? torch::stable::new_zeros(offsets_, pixels_.sizes())
                    : torch::stable::new_empty(offsets_, {0}),
        torch::stable::empty_like(offsets_),
        channels_first(kernels),
        masks_ ? torch::stable::empty_like(*masks_) : torch::stable::new_empty(offsets_, {0})};
    for (int64_t first = 0; first < shape_.rows(); first += tile_rows_) {
      const Tensor columns = sample(first);
      const Tensor some = tile_of(grad_rows, first, columns.size(1));
      if (needs.weight) add_kernels(some, columns, grads);
      if (!needs.samples()) continue;
      bmm_out(columns, some, kernels_);  // now their gradient
      scatter_back(first, columns, grads, needs);
    }
    return grads;
  }

 private:
  static Tensor wide(const Tensor& tensor) {
    return torch::stable::contiguous(torch::stable::to(tensor, kScalarType<Wide<T>>));
  }

  // Some rows of (rows, C') by group: (groups, count, C' / groups), without a copy.
  Tensor tile_of(Tensor rows, int64_t first, int64_t count) const {
    const Tensor some = torch::stable::narrow(rows, 0, first, count);
    const Tensor groups = torch::stable::view(some, {count, shape_.groups, outputs_});
    return torch::stable::transpose(groups, 0, 1);
  }

  TileInput<T> tile_at(int64_t first) const {
    return {
        pixels_.template const_data_ptr<T>(), offsets_.template const_data_ptr<Wide<T>>(),
        masks_ ? masks_->template const_data_ptr<Wide<T>>() : nullptr, first,
        std::min(tile_rows_, shape_.rows() - first), int(shape_.group_channels()),
        int(shape_.channels / shape_.offset_groups)};
  }

  // Whether packs of kPackBytes do not cross groups and are aligned.
  bool is_packed() const {
    const int64_t pack = kPackBytes / int64_t(sizeof(T));
    const auto address = reinterpret_cast<uintptr_t>(pixels_.template const_data_ptr<T>());
    return address % kPackBytes == 0 && shape_.group_channels() % pack == 0 &&
        shape_.channels / shape_.offset_groups % pack == 0;
  }

  unsigned blocks(const TileInput<T>& in) const {
    return blocks_for(in.rows * shape_.row_samples(), kChunk);
  }

  // The columns of the tile: (groups, rows, column).
  Tensor sample(int64_t first) {
    const TileInput<T> in = tile_at(first);
    Tensor used = torch::stable::narrow(buffer_, 0, 0, shape_.groups * in.rows * column_);
    T* columns = used.template mutable_data_ptr<T>();
    const auto kernel = is_packed() ? gather<T, kPackBytes / sizeof(T)> : gather<T, 1>;
    kernel<<<blocks(in), kThreads, 0, device_.stream()>>>(shape_, in, columns);
    check_launch();
    return torch::stable::view(used, {shape_.groups, in.rows, column_});
  }

  void add_kernels(
      const Tensor& grad_rows, const Tensor& columns, const Gradients& grads) const {
    const Tensor product = torch::stable::empty_like(kernels_);
    bmm_out(product, torch::stable::transpose(grad_rows, 1, 2), columns);
    const int64_t count = product.numel();
    add_to<T><<<blocks_for(count, kThreads), kThreads, 0, device_.stream()>>>(
        count, product.template const_data_ptr<T>(),
        grads.kernels.template mutable_data_ptr<Wide<T>>());
    check_launch();
  }

  // From the gradient of a tile's columns to those of pixels, offsets and masks.
  void scatter_back(
      int64_t first, const Tensor& columns, const Gradients& grads, const Needs& needs) const {
    const TileInput<T> in = tile_at(first);
    constexpr int kPack = kPackBytes / sizeof(T);
    const int packs = in.offset_channels / (is_packed() ? kPack : 1);
    int lanes = 1;
    while (lanes < packs && lanes < kWarp) lanes *= 2;
    const auto kernel = is_packed() ? scatter<T, kPack> : scatter<T, 1>;
    kernel<<<blocks(in), kThreads, 0, device_.stream()>>>(
        shape_, in, columns.template const_data_ptr<T>(),
        needs.input ? grads.pixels.template mutable_data_ptr<Wide<T>>() : nullptr,
        grads.offsets.template mutable_data_ptr<Wide<T>>(),
        masks_ ? grads.masks.template mutable_data_ptr<Wide<T>>() : nullptr, lanes);
    check_launch();
  }

  const DeformConvShape shape_;
  const OnDevice device_;
  const Tensor pixels_, offsets_;
  std::optional<Tensor> masks_;
  Tensor kernels_, buffer_;  // buffer_ is for the columns of a tile
  int64_t outputs_, column_;  // C' / groups; numbers in a group's column
  int64_t tile_rows_;
};

Tensor deform_conv2d(
    const Tensor& input, const Tensor& offset, const Tensor& weight,
    const std::optional<Tensor>& bias, const std::optional<Tensor>& mask, const Pair& stride,
    const Pair& padding, const Pair& dilation) {
  const DeformConvShape shape =
      shape_of(input, offset, weight, mask, stride, padding, dilation);
  check_bias(bias, shape, input);
  return with_floats(input.scalar_type(), [&](auto zero) {
    return DeformConv<decltype(zero)>(shape, input, offset, weight, mask).forward(bias);
  });
}

FourTensors deform_conv2d_backward(
    const Tensor& grad_output, const Tensor& input, const Tensor& offset, const Tensor& weight,
    const std::optional<Tensor>& mask, const Pair& stride, const Pair& padding,
    const Pair& dilation, bool needs_input, bool needs_positions, bool needs_weight) {
  const Needs needs{needs_input, needs_positions, needs_weight};
  const DeformConvShape shape =
      shape_of(input, offset, weight, mask, stride, padding, dilation);
  check_grad_output(grad_output, shape, input);
  const Gradients grads = with_floats(input.scalar_type(), [&](auto zero) {
    DeformConv<decltype(zero)> conv(shape, input, offset, weight, mask);
    return conv.backward(grad_output, needs);
  });
  return grads.like(input, offset, weight, mask, needs);
}

STABLE_TORCH_LIBRARY_IMPL(d2ext, CUDA, library) {
  library.impl("deform_conv2d", TORCH_BOX(&deform_conv2d));
  library.impl("deform_conv2d_backward", TORCH_BOX(&deform_conv2d_backward));
}

}  // namespace
}  // namespace d2ext
