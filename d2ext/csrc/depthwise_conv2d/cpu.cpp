// Depthwise convolution on the CPU, channels last. The rows around the current one are kept with a
// border of zeros, channels in blocks, in float for half types: the loops meet neither borders nor
// dtypes, and memory is read and written in order. No two parts of the work write to one place, and
// sums are taken part by part in a fixed order: any number of threads gives the same bits.

#include <tuple>

#include "../buffer.h"
#include "../types.h"
#include "loops.h"
#include "problem.h"

namespace d2ext {
namespace {

using torch::headeronly::BFloat16;
using torch::headeronly::Half;

D2EXT_DEPTHWISE_COPIES(float, float)
D2EXT_DEPTHWISE_COPIES(float, BFloat16)
D2EXT_DEPTHWISE_COPIES(float, Half)
D2EXT_DEPTHWISE_COPIES(double, double)

constexpr int64_t kParts = 32;  // enough for many threads
constexpr int64_t kLeastRows = 16;  // of a part: those around it are read twice

// The maps of one image, (height, width, channels).
template <typename S>
struct Maps {
  S* data;
  int64_t height, width, channels;

  S* row(int64_t y) const { return data + y * width * channels; }
};

// Copies of some consecutive rows of maps, zeros outside of them.
template <typename T>
class Window {
 public:
  Window(int64_t blocks, int64_t rows, const Range& columns)
      : blocks_(blocks),
        rows_(rows),
        columns_(columns),
        // Odd: blocks at a distance of a power of two would share lines of the cache.
        block_step_((columns.size() | 1) * kLanes<T>),
        buffer_(rows * blocks * block_step_) {}

  int64_t block_step() const { return block_step_; }
  void start_at(int64_t y) { next_ = y; }

  template <typename S>
  void read_until(int64_t end, const Maps<const S>& maps) {
    for (; next_ < end; ++next_) read(next_, maps);
  }

  // Of the rows read last. The pixels from x to the last column.
  Row<T> row(int64_t y, int64_t x) {
    const int64_t slot = ((y % rows_) + rows_) % rows_;
    T* data = buffer_.data() + slot * blocks_ * block_step_ + (x - columns_.begin) * kLanes<T>;
    return {data, blocks_, columns_.end - x, block_step_, kLanes<T>};
  }

 private:
  template <typename S>
  void read(int64_t y, const Maps<const S>& maps) {
    const bool is_inside = y >= 0 && y < maps.height;
    const int64_t begin = std::clamp<int64_t>(0, columns_.begin, columns_.end);
    const int64_t end = is_inside ? std::clamp(maps.width, begin, columns_.end) : begin;
    clear(y, {columns_.begin, begin});
    clear(y, {end, columns_.end});
    if (begin == end) return;
    Row<T> inside = row(y, begin);
    inside.count = end - begin;
    read_row(maps.row(y) + begin * maps.channels, maps.channels, inside);
  }

  void clear(int64_t y, const Range& columns) {
    const Row<T> all = row(y, columns.begin);
    for (int64_t block = 0; block < blocks_; ++block) {
      std::fill_n(all.data + block * block_step_, columns.size() * kLanes<T>, T(0));
    }
  }

  const int64_t blocks_, rows_;
  const Range columns_;
  const int64_t block_step_;
  Buffer<T> buffer_;
  int64_t next_ = 0;
};

// Some rows of an image.
struct Part {
  int64_t number, image;
  Range inputs, outputs;  // rows of both
};

template <typename T>
class Depthwise {
 public:
  Depthwise(const DepthwiseShape& shape, const Tensor& weight)
      : shape_(shape),
        blocks_(quotient_above(shape.channels, kLanes<T>)),
        bands_(bands_of(shape)),
        weights_(weights_size()) {
    const Tensor source = torch::stable::contiguous(torch::stable::to(weight, kTypeOf<T>));
    const T* from = source.template const_data_ptr<T>();
    for (int64_t i = 0; i < weight.numel(); ++i) weights_.data()[weight_place(i)] = from[i];
  }

  // (B, H, W, C) -> (B, C, H', W'), channels last
  template <typename S>
  Tensor forward(const Tensor& input, const std::optional<Tensor>& bias) {
    const Tensor output = empty_channels_last(
        input, {shape_.batch, shape_.channels, shape_.y.output, shape_.x.output});
    Buffer<T> start(blocks_ * kLanes<T>);
    if (bias) {
      const Tensor terms = torch::stable::contiguous(torch::stable::to(*bias, kTypeOf<T>));
      std::copy_n(terms.template const_data_ptr<T>(), shape_.channels, start.data());
    }
    const S* from = input.template const_data_ptr<S>();
    S* to = output.template mutable_data_ptr<S>();
    for_parts([&](const Part& part) {
      convolve(part, inputs(from, part), start.data(), outputs(to, part));
    });
    return output;
  }

  // (B, H', W', C) -> (B, C, H, W), channels last: the gradient of the input.
  template <typename S>
  Tensor backward_input(const Tensor& grad_output) {
    const Tensor grad_input = empty_channels_last(
        grad_output, {shape_.batch, shape_.channels, shape_.y.input, shape_.x.input});
    const S* from = grad_output.template const_data_ptr<S>();
    S* to = grad_input.template mutable_data_ptr<S>();
    for_parts([&](const Part& part) {
      convolve_back(part, outputs(from, part), inputs(to, part));
    });
    return grad_input;
  }

  // The gradient of the weight, (C, 1, kh, kw) in T.
  template <typename S>
  Tensor backward_weight(const Tensor& grad_output, const Tensor& input) {
    const int64_t parts = shape_.batch * bands_;
    Buffer<T> sums(parts * weights_size());
    const S* grads = grad_output.template const_data_ptr<S>();
    const S* pixels = input.template const_data_ptr<S>();
    for_parts([&](const Part& part) {
      T* own = sums.data() + part.number * weights_size();
      multiply(outputs(grads, part), inputs(pixels, part), part.outputs, own);
    });
    const Tensor grad_weight = torch::stable::new_empty(
        input, {shape_.channels, 1, shape_.y.kernel, shape_.x.kernel}, kTypeOf<T>);
    T* to = grad_weight.template mutable_data_ptr<T>();
    for (int64_t i = 0; i < grad_weight.numel(); ++i) {
      const T* own = sums.data() + weight_place(i);
      double sum = 0;
      for (int64_t part = 0; part < parts; ++part) sum += double(own[part * weights_size()]);
      to[i] = T(sum);
    }
    return grad_weight;
  }

 private:
  static int64_t bands_of(const DepthwiseShape& shape) {
    const int64_t wanted = quotient_above(kParts, std::max<int64_t>(shape.batch, 1));
    return std::clamp<int64_t>(shape.y.output / kLeastRows, 1, wanted);
  }

  int64_t weights_size() const { return blocks_ * shape_.taps() * kLanes<T>; }

  // Where a weight, (C, 1, kh, kw), stands in (blocks, taps, kLanes).
  int64_t weight_place(int64_t i) const {
    const int64_t channel = i / shape_.taps(), tap = i % shape_.taps();
    return (channel / kLanes<T> * shape_.taps() + tap) * kLanes<T> + channel % kLanes<T>;
  }

  template <typename F>
  void for_parts(const F& run) const {
    torch::stable::parallel_for(0, shape_.batch * bands_, 1, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) {
        run(Part{i, i / bands_, band(i % bands_, shape_.y.input), band(i % bands_, shape_.y.output)});
      }
    });
  }

  Range band(int64_t number, int64_t height) const {
    return {height * number / bands_, height * (number + 1) / bands_};
  }

  template <typename S>
  Maps<S> inputs(S* images, const Part& part) const {
    const Maps<S> maps{images, shape_.y.input, shape_.x.input, shape_.channels};
    return {maps.row(part.image * maps.height), maps.height, maps.width, maps.channels};
  }

  template <typename S>
  Maps<S> outputs(S* images, const Part& part) const {
    const Maps<S> maps{images, shape_.y.output, shape_.x.output, shape_.channels};
    return {maps.row(part.image * maps.height), maps.height, maps.width, maps.channels};
  }

  template <typename S>
  void convolve(
      const Part& part, const Maps<const S>& inputs, const T* start, const Maps<S>& outputs) {
    Window<T> window(blocks_, shape_.y.span(), shape_.x.read({0, shape_.x.output}));
    Window<T> sums(blocks_, 1, {0, shape_.x.output});
    std::vector<TapOperands<T>> taps;
    window.start_at(shape_.y.read(part.outputs).begin);
    for (int64_t y = part.outputs.begin; y < part.outputs.end; ++y) {
      window.read_until(shape_.y.read({y, y + 1}).end, inputs);
      sum_row(taps_of(window, y, taps), start, sums.row(0, 0));
      write_row(sums.row(0, 0), shape_.channels, outputs.row(y));
    }
  }

  // Pixels whose places are equal modulo the stride are read by the same taps.
  template <typename S>
  void convolve_back(const Part& part, const Maps<const S>& outputs, const Maps<S>& inputs) {
    const Axis &y_axis = shape_.y, &x_axis = shape_.x;
    Window<T> window(
        blocks_, y_axis.readers({0, 1}).size() + 1, x_axis.readers({0, x_axis.input}));
    Window<T> sums(blocks_, 1, {0, x_axis.input});
    Buffer<T> zeros(blocks_ * kLanes<T>);
    std::vector<TapOperands<T>> taps;
    window.start_at(y_axis.readers(part.inputs).begin);
    for (int64_t y = part.inputs.begin; y < part.inputs.end; ++y) {
      window.read_until(y_axis.readers({y, y + 1}).end, outputs);
      for (int64_t first = 0; first < std::min(x_axis.stride, x_axis.input); ++first) {
        Row<T> row = sums.row(0, first);
        row.count = quotient_above(row.count, x_axis.stride), row.step *= x_axis.stride;
        sum_row(taps_back(window, y, first, taps), zeros.data(), row);
      }
      write_row(sums.row(0, 0), shape_.channels, inputs.row(y));
    }
  }

  template <typename S>
  void multiply(
      const Maps<const S>& outputs, const Maps<const S>& inputs, const Range& rows, T* sums) {
    Window<T> window(blocks_, shape_.y.span(), shape_.x.read({0, shape_.x.output}));
    Window<T> grads(blocks_, 1, {0, shape_.x.output});
    std::vector<TapOperands<T>> taps;
    window.start_at(shape_.y.read(rows).begin);
    grads.start_at(rows.begin);
    for (int64_t y = rows.begin; y < rows.end; ++y) {
      window.read_until(shape_.y.read({y, y + 1}).end, inputs);
      grads.read_until(y + 1, outputs);
      const Row<T> row = grads.row(y, 0);
      multiply_row(
          taps_of(window, y, taps), {row.data, row.blocks, row.count, row.block_step, row.step},
          sums);
    }
  }

  // Of a row of the output.
  Taps<T> taps_of(Window<T>& inputs, int64_t y, std::vector<TapOperands<T>>& taps) {
    taps.clear();
    for (int64_t i = 0; i < shape_.y.kernel; ++i) {
      const Row<T> row = inputs.row(shape_.y.read(y, i), shape_.x.read(0, 0));
      for (int64_t j = 0; j < shape_.x.kernel; ++j) {
        taps.push_back({row.data + j * shape_.x.dilation * kLanes<T>, weights_of(i, j)});
      }
    }
    return with_steps(inputs, taps, shape_.x.stride);
  }

  // Of the pixels x, x + stride, ... of a row of the input.
  Taps<T> taps_back(Window<T>& outputs, int64_t y, int64_t x, std::vector<TapOperands<T>>& taps) {
    taps.clear();
    for (int64_t i = 0; i < shape_.y.kernel; ++i) {
      const int64_t out_y = y - shape_.y.read(0, i);
      if (out_y % shape_.y.stride) continue;
      for (int64_t j = 0; j < shape_.x.kernel; ++j) {
        const int64_t out_x = x - shape_.x.read(0, j);
        if (out_x % shape_.x.stride) continue;
        const Row<T> row = outputs.row(out_y / shape_.y.stride, out_x / shape_.x.stride);
        taps.push_back({row.data, weights_of(i, j)});
      }
    }
    return with_steps(outputs, taps, 1);
  }

  Taps<T> with_steps(
      Window<T>& window, const std::vector<TapOperands<T>>& taps, int64_t stride) const {
    return {
        taps.data(), int64_t(taps.size()), window.block_step(), stride * kLanes<T>,
        shape_.taps() * kLanes<T>};
  }

  const T* weights_of(int64_t y, int64_t x) {
    return weights_.data() + (y * shape_.x.kernel + x) * kLanes<T>;
  }

  const DepthwiseShape shape_;
  const int64_t blocks_, bands_;  // in which channels and rows are computed
  Buffer<T> weights_;  // (blocks, taps, kLanes)
};

Tensor depthwise_conv2d(
    const Tensor& input, const Tensor& weight, const std::optional<Tensor>& bias,
    const Numbers& stride, const Numbers& padding, const Numbers& dilation) {
  const DepthwiseShape shape = shape_of(input, weight, stride, padding, dilation);
  check_bias(bias, input);
  return with_types(input.scalar_type(), [&](auto t, auto s) {
    Depthwise<decltype(t)> problem(shape, weight);
    return problem.template forward<decltype(s)>(channels_last(input), bias);
  });
}

// Gradients of input and weight; those that are not needed are empty.
std::tuple<Tensor, Tensor> depthwise_conv2d_backward(
    const Tensor& grad_output, const Tensor& input, const Tensor& weight, const Numbers& stride,
    const Numbers& padding, const Numbers& dilation, bool needs_input, bool needs_weight) {
  const DepthwiseShape shape = shape_of(input, weight, stride, padding, dilation);
  check_grad_output(grad_output, shape, input);
  const Tensor grads = channels_last(torch::stable::to(grad_output, input.scalar_type()));
  return with_types(input.scalar_type(), [&](auto t, auto s) {
    using S = decltype(s);
    Depthwise<decltype(t)> problem(shape, weight);
    Tensor grad_input = torch::stable::new_empty(input, {0});
    Tensor grad_weight = torch::stable::new_empty(weight, {0});
    if (needs_input) grad_input = problem.template backward_input<S>(grads);
    if (needs_weight) {
      grad_weight = problem.template backward_weight<S>(grads, channels_last(input));
    }
    return std::make_tuple(grad_input, torch::stable::to(grad_weight, weight.scalar_type()));
  });
}

STABLE_TORCH_LIBRARY_IMPL(d2ext, CPU, library) {
  library.impl("depthwise_conv2d", TORCH_BOX(&depthwise_conv2d));
  library.impl("depthwise_conv2d_backward", TORCH_BOX(&depthwise_conv2d_backward));
}

}  // namespace
}  // namespace d2ext
