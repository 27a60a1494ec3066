// An affine map of each channel with bounds, on the CPU, channels last: frozen batch norm and what
// follows it in one pass over memory. Half types are computed in float.

#include "../checks.h"
#include "../types.h"
#include "../vectors.h"

namespace d2ext {
namespace {

using torch::headeronly::BFloat16;
using torch::headeronly::Half;

constexpr int64_t kGrain = 1 << 15;  // numbers worth a thread

template <typename T>
struct Bounds {
  T low, high;
};

// Pixels, (pixels, channels). Comparisons let NaN through.
template <typename T, typename S>
D2EXT_INLINE void map_pixels(
    const S* from, int64_t pixels, int64_t channels, const T* scale, const T* shift,
    const Bounds<T>& bounds, S* to) {
  const T low = bounds.low, high = bounds.high;
  for (int64_t i = 0; i < pixels; ++i, from += channels, to += channels) {
#pragma omp simd
    for (int64_t c = 0; c < channels; ++c) {
      const T value = T(load(from + c)) * scale[c] + shift[c];
      const T above = value < low ? low : value;
      store(to + c, above > high ? high : above);
    }
  }
}

// The gradient is 0 where the output is at a bound.
template <typename T, typename S>
D2EXT_INLINE void map_pixels_back(
    const S* grad, const S* output, int64_t pixels, int64_t channels, const T* scale,
    const Bounds<T>& bounds, S* to) {
  const T low = bounds.low, high = bounds.high;
  for (int64_t i = 0; i < pixels; ++i, grad += channels, output += channels, to += channels) {
#pragma omp simd
    for (int64_t c = 0; c < channels; ++c) {
      const T value = load(output + c), slope = T(load(grad + c)) * scale[c];
      store(to + c, (value <= low) | (value >= high) ? T(0) : slope);
    }
  }
}

#define D2EXT_CHANNEL_AFFINE_LOOPS(T, S)                                                       \
  D2EXT_VECTORS void map_rows(                                                                 \
      const S* from, int64_t pixels, int64_t channels, const T* scale, const T* shift,         \
      const Bounds<T>& bounds, S* to) {                                                        \
    map_pixels(from, pixels, channels, scale, shift, bounds, to);                              \
  }                                                                                            \
  D2EXT_VECTORS void map_rows_back(                                                            \
      const S* grad, const S* output, int64_t pixels, int64_t channels, const T* scale,        \
      const Bounds<T>& bounds, S* to) {                                                        \
    map_pixels_back(grad, output, pixels, channels, scale, bounds, to);                        \
  }

D2EXT_CHANNEL_AFFINE_LOOPS(float, float)
D2EXT_CHANNEL_AFFINE_LOOPS(float, BFloat16)
D2EXT_CHANNEL_AFFINE_LOOPS(float, Half)
D2EXT_CHANNEL_AFFINE_LOOPS(double, double)

// Calls `run` with the first number and the count of pixels of each share of the threads.
template <typename F>
void for_pixels(const Tensor& rows, const F& run) {
  const int64_t channels = rows.size(3), pixels = channels ? rows.numel() / channels : 0;
  const int64_t grain = 1 + kGrain / std::max<int64_t>(channels, 1);
  torch::stable::parallel_for(0, pixels, grain, [&](int64_t begin, int64_t end) {
    run(begin * channels, end - begin);
  });
}

template <typename T>
Tensor in_type(const Tensor& tensor) {
  return torch::stable::contiguous(torch::stable::to(tensor, kTypeOf<T>));
}

std::vector<int64_t> sizes_of(const Tensor& maps) {
  return {maps.size(0), maps.size(1), maps.size(2), maps.size(3)};
}

void check_arguments(const Tensor& input, const Tensor& scale) {
  check_sizes(input, "input", {kAny, kAny, kAny, kAny});
  check_sizes(scale, "scale", {input.size(1)});
  check_floats(input, "input", input);
  check_floats(scale, "scale", input);
}

Tensor channel_affine(
    const Tensor& input, const Tensor& scale, const Tensor& shift, double low, double high) {
  check_arguments(input, scale);
  check_sizes(shift, "shift", {input.size(1)});
  check_floats(shift, "shift", input);
  const Tensor rows = channels_last(input);
  const Tensor output = empty_channels_last(input, sizes_of(input));
  return with_types(input.scalar_type(), [&](auto t, auto s) {
    using T = decltype(t);
    using S = decltype(s);
    const Tensor scales = in_type<T>(scale), shifts = in_type<T>(shift);
    for_pixels(rows, [&](int64_t first, int64_t pixels) {
      map_rows(
          rows.template const_data_ptr<S>() + first, pixels, rows.size(3),
          scales.template const_data_ptr<T>(), shifts.template const_data_ptr<T>(),
          Bounds<T>{T(low), T(high)}, output.template mutable_data_ptr<S>() + first);
    });
    return output;
  });
}

Tensor channel_affine_backward(
    const Tensor& grad_output, const Tensor& output, const Tensor& scale, double low,
    double high) {
  check_arguments(output, scale);
  check_sizes(
      grad_output, "grad_output",
      {output.size(0), output.size(1), output.size(2), output.size(3)});
  check_floats(grad_output, "grad_output", output);
  const Tensor grads = channels_last(torch::stable::to(grad_output, output.scalar_type()));
  const Tensor rows = channels_last(output);
  const Tensor grad_input = empty_channels_last(output, sizes_of(output));
  return with_types(output.scalar_type(), [&](auto t, auto s) {
    using T = decltype(t);
    using S = decltype(s);
    const Tensor scales = in_type<T>(scale);
    for_pixels(rows, [&](int64_t first, int64_t pixels) {
      map_rows_back(
          grads.template const_data_ptr<S>() + first, rows.template const_data_ptr<S>() + first,
          pixels, rows.size(3), scales.template const_data_ptr<T>(),
          Bounds<T>{T(low), T(high)}, grad_input.template mutable_data_ptr<S>() + first);
    });
    return grad_input;
  });
}

STABLE_TORCH_LIBRARY_IMPL(d2ext, CPU, library) {
  library.impl("channel_affine", TORCH_BOX(&channel_affine));
  library.impl("channel_affine_backward", TORCH_BOX(&channel_affine_backward));
}

}  // namespace
}  // namespace d2ext
