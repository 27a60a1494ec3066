// 3x3 convolution of stride 1 on the CPU, by Winograd's minimal filtering: for each block of tiles
// that fits the cache, 36 products of matrices. The number of threads changes no bits.

#include <optional>

#include "../checks.h"
#include "tiles.h"

namespace d2ext {
namespace {

using torch::headeronly::ScalarType;

D2EXT_TRANSFORM_BOTH(both_inputs, transform_inputs, kInputs, kInputs)
D2EXT_TRANSFORM_BOTH(both_taps, transform_taps, kTaps, kInputs)
D2EXT_TRANSFORM_BOTH(both_products, transform_products, kInputs, kOutputs)
D2EXT_TRANSFORM_BOTH(both_gradients, transform_gradients, kOutputs, kInputs)
D2EXT_TRANSFORM_BOTH(both_sums, transform_sums, kInputs, kTaps)

constexpr int64_t kKernel = kTaps * kTaps;
constexpr int64_t kLeastChannels = 8;  // fewer are not worth a thread

template <typename T>
constexpr int64_t kProductLines = kProducts * kPanel<T>;

int64_t panels_of(int64_t count, int64_t panel) { return (count + panel - 1) / panel; }

// Numbers of a tile side: Out x Out lines per channel, channel after channel.
template <typename T>
struct Lines {
  T* data;
  int64_t channels;

  T* of(int64_t channel) const { return data + channel * kPanel<T>; }
  int64_t step() const { return channels * kPanel<T>; }
  T* product(int64_t k) const { return data + k * step(); }
};

template <typename T>
Tensor lines_for(const Tensor& like, int64_t channels) {
  return torch::stable::new_empty(like, {channels * kProductLines<T>});
}

// (C', C, 3, 3) kernels -> (36, C', C)
template <typename T>
Tensor transformed_kernels(const Tensor& weight) {
  const int64_t outputs = weight.size(0), inputs = weight.size(1);
  const Tensor kernels = torch::stable::new_empty(weight, {kProducts, outputs, inputs});
  const T* from = weight.template const_data_ptr<T>();
  T* to = kernels.template mutable_data_ptr<T>();
  torch::stable::parallel_for(0, outputs, kLeastChannels, [&](int64_t begin, int64_t end) {
    std::vector<T> taps(kKernel * kPanel<T>), found(kProductLines<T>);
    for (int64_t o = begin; o < end; ++o) {
      for (int64_t first = 0; first < inputs; first += kPanel<T>) {
        const int64_t count = std::min(kPanel<T>, inputs - first);
        const T* source = from + (o * inputs + first) * kKernel;
        for (int64_t i = 0; i < count; ++i) {
          for (int64_t k = 0; k < kKernel; ++k) taps[k * kPanel<T> + i] = source[i * kKernel + k];
        }
        both_taps(taps.data(), kPanel<T>, found.data(), kPanel<T>);
        for (int64_t k = 0; k < kProducts; ++k) {
          const T* line = found.data() + k * kPanel<T>;
          std::copy_n(line, count, to + (k * outputs + o) * inputs + first);
        }
      }
    }
  });
  return kernels;
}

// The gradient of `transformed_kernels`: (36, C', C) -> (C', C, 3, 3)
template <typename T>
Tensor kernels_gradient(const Tensor& sums) {
  const int64_t outputs = sums.size(1), inputs = sums.size(2);
  const Tensor grad = torch::stable::new_empty(sums, {outputs, inputs, kTaps, kTaps});
  const T* from = sums.template const_data_ptr<T>();
  T* to = grad.template mutable_data_ptr<T>();
  torch::stable::parallel_for(0, outputs, kLeastChannels, [&](int64_t begin, int64_t end) {
    std::vector<T> lines(kProductLines<T>), taps(kKernel * kPanel<T>);
    for (int64_t o = begin; o < end; ++o) {
      for (int64_t first = 0; first < inputs; first += kPanel<T>) {
        const int64_t count = std::min(kPanel<T>, inputs - first);
        for (int64_t k = 0; k < kProducts; ++k) {
          std::copy_n(
              from + (k * outputs + o) * inputs + first, count, lines.data() + k * kPanel<T>);
        }
        both_sums(lines.data(), kPanel<T>, taps.data(), kPanel<T>);
        T* target = to + (o * inputs + first) * kKernel;
        for (int64_t i = 0; i < count; ++i) {
          for (int64_t k = 0; k < kKernel; ++k) target[i * kKernel + k] = taps[k * kPanel<T> + i];
        }
      }
    }
  });
  return grad;
}

template <typename T>
Plane<const T> input_plane(const WinogradShape& shape, const T* input, int64_t channel) {
  const int64_t size = shape.height * shape.width;
  return {input + channel * size, shape.channels * size, shape.height, shape.width};
}

template <typename T>
Plane<T> output_plane(const WinogradShape& shape, T* output, int64_t channel) {
  const int64_t size = shape.out_height() * shape.out_width();
  return {output + channel * size, shape.out_channels * size, shape.out_height(),
          shape.out_width()};
}

template <typename T>
Tensor convolve(
    const WinogradShape& shape, const Tensor& input, const Tensor& weight,
    const std::optional<Tensor>& bias) {
  const Tensor output = torch::stable::new_empty(
      input, {shape.batch, shape.out_channels, shape.out_height(), shape.out_width()});
  const Tensor transformed = transformed_kernels<T>(weight);
  const int64_t channels = shape.channels, outputs = shape.out_channels;
  const T* from = input.template const_data_ptr<T>();
  const T* kernels = transformed.template const_data_ptr<T>();
  const T* terms = bias ? bias->template const_data_ptr<T>() : nullptr;
  T* to = output.template mutable_data_ptr<T>();
  const int64_t blocks = panels_of(shape.tiles(), kPanel<T>);
  torch::stable::parallel_for(0, blocks, 1, [&](int64_t begin, int64_t end) {
    std::vector<T> inputs(channels * kProductLines<T>), products(outputs * kProductLines<T>),
        lines(kProductLines<T>);
    const Lines<T> in{inputs.data(), channels}, out{products.data(), outputs};
    for (int64_t block = begin; block < end; ++block) {
      const int64_t first = block * kPanel<T>;
      const int64_t count = std::min(kPanel<T>, shape.tiles() - first);
      const std::vector<Tile> tiles = tiles_from(shape, first, count);
      for (int64_t c = 0; c < channels; ++c) {
        gather<kInputs, T>(input_plane(shape, from, c), tiles, shape.padding, lines.data());
        both_inputs(lines.data(), kPanel<T>, in.of(c), in.step());
      }
      for (int64_t k = 0; k < kProducts; ++k) {
        std::fill_n(out.product(k), out.step(), T(0));
        multiply<T>(
            {outputs, count, channels, kernels + k * outputs * channels, channels, 1,
             in.product(k), out.product(k), kPanel<T>});
      }
      for (int64_t o = 0; o < outputs; ++o) {
        both_products(out.of(o), out.step(), lines.data(), kPanel<T>);
        scatter(lines.data(), tiles, terms ? terms[o] : T(0), output_plane(shape, to, o));
      }
    }
  });
  return output;
}

// Lines of a panel of channels, one per tile instead of one per channel.
template <typename T>
void turn(const T* from, int64_t channels, int64_t tiles, T* to) {
  for (int64_t c = 0; c < channels; ++c) {
    for (int64_t t = 0; t < tiles; ++t) to[t * kPanel<T> + c] = from[c * kPanel<T> + t];
  }
}

// Adds the products of one block of tiles to (36, C', C) sums. Threads share the 36.
template <typename T>
void add_products(const Lines<T>& in, const Lines<T>& grads, int64_t tiles, T* sums) {
  const int64_t channels = in.channels, outputs = grads.channels;
  torch::stable::parallel_for(0, kProducts, 1, [&](int64_t begin, int64_t end) {
    std::vector<T> turned(kPanel<T> * kPanel<T>);
    for (int64_t k = begin; k < end; ++k) {
      for (int64_t first = 0; first < channels; first += kPanel<T>) {
        const int64_t count = std::min(kPanel<T>, channels - first);
        turn(in.product(k) + first * kPanel<T>, count, tiles, turned.data());
        multiply<T>(
            {outputs, count, tiles, grads.product(k), kPanel<T>, 1, turned.data(),
             sums + k * outputs * channels + first, channels});
      }
    }
  });
}

template <typename T>
Tensor weight_gradient(
    const WinogradShape& shape, const Tensor& grad_output, const Tensor& input) {
  const int64_t channels = shape.channels, outputs = shape.out_channels;
  const Tensor sums = torch::stable::new_zeros(input, {kProducts, outputs, channels});
  const Tensor in_lines = lines_for<T>(input, channels), grad_lines = lines_for<T>(input, outputs);
  const Lines<T> in{in_lines.template mutable_data_ptr<T>(), channels};
  const Lines<T> grads{grad_lines.template mutable_data_ptr<T>(), outputs};
  const T* from = input.template const_data_ptr<T>();
  const T* slopes = grad_output.template const_data_ptr<T>();
  for (int64_t first = 0; first < shape.tiles(); first += kPanel<T>) {
    const std::vector<Tile> tiles =
        tiles_from(shape, first, std::min(kPanel<T>, shape.tiles() - first));
    torch::stable::parallel_for(
        0, channels + outputs, kLeastChannels, [&](int64_t begin, int64_t end) {
          std::vector<T> lines(kProductLines<T>);
          for (int64_t i = begin; i < end; ++i) {
            if (i < channels) {
              gather<kInputs, T>(input_plane(shape, from, i), tiles, shape.padding, lines.data());
              both_inputs(lines.data(), kPanel<T>, in.of(i), in.step());
            } else {
              const int64_t o = i - channels;
              gather<kOutputs, T>(output_plane(shape, slopes, o), tiles, 0, lines.data());
              both_gradients(lines.data(), kPanel<T>, grads.of(o), grads.step());
            }
          }
        });
    add_products(in, grads, tiles.size(), sums.template mutable_data_ptr<T>());
  }
  return kernels_gradient<T>(sums);
}

WinogradShape checked_shape(const Tensor& input, int64_t outputs, int64_t padding) {
  check_sizes(input, "input", {kAny, kAny, kAny, kAny});
  const ScalarType type = input.scalar_type();
  STD_TORCH_CHECK(
      type == ScalarType::Float || type == ScalarType::Double, "input must be float or double");
  const WinogradShape shape{
      input.size(0), input.size(1), input.size(2), input.size(3), outputs, padding};
  STD_TORCH_CHECK(
      padding >= 0 && padding < kTaps && shape.out_height() > 0 && shape.out_width() > 0,
      "padding must be 0 to 2, and the padded input at least 3x3");
  return shape;
}

void check_like(const Tensor& tensor, const char* name, const Tensor& input) {
  check_device(tensor, name, input);
  STD_TORCH_CHECK(
      tensor.scalar_type() == input.scalar_type(), name, " must have the dtype of input");
}

Tensor winograd_conv2d(
    const Tensor& input, const Tensor& weight, const std::optional<Tensor>& bias,
    int64_t padding) {
  check_sizes(input, "input", {kAny, kAny, kAny, kAny});
  check_sizes(weight, "weight", {kAny, input.size(1), kTaps, kTaps});
  check_like(weight, "weight", input);
  const WinogradShape shape = checked_shape(input, weight.size(0), padding);
  std::optional<Tensor> terms;
  if (bias) {
    check_sizes(*bias, "bias", {shape.out_channels});
    check_like(*bias, "bias", input);
    terms = torch::stable::contiguous(*bias);
  }
  const Tensor maps = torch::stable::contiguous(input);
  const Tensor kernels = torch::stable::contiguous(weight);
  return input.scalar_type() == ScalarType::Double
      ? convolve<double>(shape, maps, kernels, terms)
      : convolve<float>(shape, maps, kernels, terms);
}

Tensor winograd_conv2d_backward(const Tensor& grad_output, const Tensor& input, int64_t padding) {
  check_sizes(grad_output, "grad_output", {kAny, kAny, kAny, kAny});
  const WinogradShape shape = checked_shape(input, grad_output.size(1), padding);
  check_sizes(
      grad_output, "grad_output",
      {shape.batch, shape.out_channels, shape.out_height(), shape.out_width()});
  check_like(grad_output, "grad_output", input);
  const Tensor grads = torch::stable::contiguous(grad_output);
  const Tensor maps = torch::stable::contiguous(input);
  return input.scalar_type() == ScalarType::Double ? weight_gradient<double>(shape, grads, maps)
                                                   : weight_gradient<float>(shape, grads, maps);
}

STABLE_TORCH_LIBRARY_IMPL(d2ext, CPU, library) {
  library.impl("winograd_conv2d", TORCH_BOX(&winograd_conv2d));
  library.impl("winograd_conv2d_backward", TORCH_BOX(&winograd_conv2d_backward));
}

}  // namespace
}  // namespace d2ext
