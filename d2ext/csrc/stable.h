// Operators that LibTorch's stable headers of version 2.10 lack, called by name by the dispatcher.

#pragma once

#include <array>
#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>
#include <vector>

namespace d2ext {

using torch::stable::Tensor;

inline Tensor reordered(const Tensor& tensor, const std::vector<int64_t>& order) {
  std::array<StableIValue, 2> stack{
      torch::stable::detail::from(tensor), torch::stable::detail::from(order)};
  STABLE_TORCH_ERROR_CODE_CHECK(
      torch_call_dispatcher("aten::permute", "", stack.data(), TORCH_ABI_VERSION));
  return torch::stable::detail::to<Tensor>(stack[0]);
}

// out = left x right for each item of a batch; all are three-dimensional.
inline void bmm_out(const Tensor& out, const Tensor& left, const Tensor& right) {
  std::array<StableIValue, 3> stack{
      torch::stable::detail::from(left), torch::stable::detail::from(right),
      torch::stable::detail::from(out)};
  STABLE_TORCH_ERROR_CODE_CHECK(
      torch_call_dispatcher("aten::bmm", "out", stack.data(), TORCH_ABI_VERSION));
  (void)torch::stable::detail::to<Tensor>(stack[0]);  // releases the returned reference to out
}

// (B, C, H, W) in any memory order -> (B, H, W, C), contiguous; no copy of a channels-last tensor.
inline Tensor channels_last(const Tensor& maps) {
  return torch::stable::contiguous(reordered(maps, {0, 2, 3, 1}));
}

// (B, H, W, C) -> (B, C, H, W) without a copy.
inline Tensor channels_first(const Tensor& rows) { return reordered(rows, {0, 3, 1, 2}); }

// A new tensor of (B, C, H, W) in channels-last memory, dtype and device of `like`. It is no view: autograd forbids to change
// views that operators return in place, as activations do.
inline Tensor empty_channels_last(const Tensor& like, const std::vector<int64_t>& size) {
  return torch::stable::empty(
      size, like.scalar_type(), std::nullopt, like.device(), std::nullopt,
      torch::headeronly::MemoryFormat::ChannelsLast);
}

// Indices by decreasing score; equal scores keep their order.
inline Tensor ranked(const Tensor& scores) {
  std::array<StableIValue, 4> stack{
      torch::stable::detail::from(scores), torch::stable::detail::from(true),
      torch::stable::detail::from(int64_t(0)), torch::stable::detail::from(true)};
  STABLE_TORCH_ERROR_CODE_CHECK(
      torch_call_dispatcher("aten::argsort", "stable", stack.data(), TORCH_ABI_VERSION));
  return torch::stable::detail::to<Tensor>(stack[0]);
}

// The items where the mask is true. On CUDA the host synchronises, to learn how many.
inline Tensor masked_select(const Tensor& items, const Tensor& mask) {
  std::array<StableIValue, 2> stack{
      torch::stable::detail::from(items), torch::stable::detail::from(mask)};
  STABLE_TORCH_ERROR_CODE_CHECK(
      torch_call_dispatcher("aten::masked_select", "", stack.data(), TORCH_ABI_VERSION));
  return torch::stable::detail::to<Tensor>(stack[0]);
}

}  // namespace d2ext
