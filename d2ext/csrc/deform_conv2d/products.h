// Products of columns and kernels as convolutions of 1x1: for these PyTorch asks oneDNN, which on
// some processors (AMD's) is up to twice as fast as what multiplies matrices there.

#pragma once

#include <array>
#include <optional>
#include <utility>

#include "../stable.h"

namespace d2ext {

constexpr int64_t kImages = 16;  // from so many on, oneDNN is asked with a single thread too

// (rows, K) -> (images, K, rows / images, 1), without a copy.
inline Tensor as_images(const Tensor& rows) {
  const int64_t images = rows.size(0) % kImages ? 1 : kImages;
  return channels_first(
      torch::stable::view(rows, {images, rows.size(0) / images, 1, rows.size(1)}));
}

inline Tensor as_rows(const Tensor& images) {
  return torch::stable::view(
      channels_last(images), {images.size(0) * images.size(2), images.size(1)});
}

// (rows, K) times (outputs, K / groups, 1, 1), plus (outputs): (rows, outputs).
inline Tensor multiply(
    const Tensor& rows, const Tensor& kernels, const std::optional<Tensor>& bias, int64_t groups) {
  using torch::stable::detail::from;
  const std::vector<int64_t> zeros{0, 0}, ones{1, 1};
  std::array<StableIValue, 9> stack{
      from(as_images(rows)), from(kernels), from(bias),  from(ones),  from(zeros),
      from(ones),            from(false),   from(zeros), from(groups)};
  STABLE_TORCH_ERROR_CODE_CHECK(
      torch_call_dispatcher("aten::convolution", "", stack.data(), TORCH_ABI_VERSION));
  return as_rows(torch::stable::detail::to<Tensor>(stack[0]));
}

// From the gradient of what `multiply` returns, those of its rows and kernels.
inline std::pair<Tensor, Tensor> multiply_backward(
    const Tensor& grad, const Tensor& rows, const Tensor& kernels, int64_t groups) {
  using torch::stable::detail::from;
  const std::vector<int64_t> zeros{0, 0}, ones{1, 1};
  const std::array<bool, 3> wanted{true, true, false};
  const torch::headeronly::HeaderOnlyArrayRef<bool> mask(wanted.data(), wanted.size());
  std::array<StableIValue, 11> stack{
      from(as_images(grad)), from(as_images(rows)), from(kernels), from(std::nullopt),
      from(ones),            from(zeros),           from(ones),    from(false),
      from(zeros),           from(groups),          from(mask)};
  STABLE_TORCH_ERROR_CODE_CHECK(
      torch_call_dispatcher("aten::convolution_backward", "", stack.data(), TORCH_ABI_VERSION));
  (void)torch::stable::detail::to<Tensor>(stack[2]);  // none, but to be released
  return {
      as_rows(torch::stable::detail::to<Tensor>(stack[0])),
      torch::stable::contiguous(torch::stable::detail::to<Tensor>(stack[1]))};
}

}  // namespace d2ext
