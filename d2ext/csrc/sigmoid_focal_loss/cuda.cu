// Focal loss on CUDA, one thread per logit. Sums are taken within blocks and then over the blocks,
// without atomics: two runs give the same bits.

#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>

#include "../cuda.h"
#include "geometry.h"
#include "problem.h"

namespace d2ext {
namespace {

using torch::headeronly::ScalarType;
using torch::stable::Tensor;

constexpr int kThreads = 256;
constexpr int64_t kMostSums = 2048;  // blocks that sum: some for each multiprocessor

template <typename W>
struct DeviceMath {
  static C10_HOST_DEVICE D2EXT_INLINE W exp(W x) { return std::exp(x); }
  static C10_HOST_DEVICE D2EXT_INLINE W log1p(W x) { return std::log1p(x); }
  static C10_HOST_DEVICE D2EXT_INLINE W pow(W base, W exponent) {
    return exponent == 2 ? base * base : std::pow(base, exponent);
  }
};

// A number for each logit, or the class of each row of logits and no numbers.
template <typename W>
struct Targets {
  const W* numbers;
  const int64_t* classes;
  int64_t num_classes;
};

template <typename W>
struct Target {
  W value;
  bool counts;
};

template <typename W>
__device__ inline Target<W> target_at(const Targets<W>& targets, int64_t i) {
  if (targets.numbers) return {targets.numbers[i], true};
  // A 64-bit division would take longer than all the rest.
  const bool is_small = i <= INT32_MAX && targets.num_classes <= INT32_MAX;
  const int64_t row =
      is_small ? uint32_t(i) / uint32_t(targets.num_classes) : i / targets.num_classes;
  const int64_t label = targets.classes[row];
  return {label == i - row * targets.num_classes ? W(1) : W(0), label >= 0};
}

template <typename T, typename W>
__device__ inline W loss_at(const T* x, const Targets<W>& targets, Focus<W> focus, int64_t i) {
  const Target<W> target = target_at(targets, i);
  if (!target.counts) return 0;
  return focal_loss<DeviceMath<W>, false>(W(x[i]), target.value, focus);
}

template <typename T, typename W>
__global__ void losses_kernel(
    int64_t count, const T* x, Targets<W> targets, Focus<W> focus, W* loss) {
  for (int64_t i = first_item(); i < count; i += item_step()) {
    loss[i] = loss_at(x, targets, focus, i);
  }
}

template <typename T, typename W>
__global__ void sums_kernel(int64_t count, const T* x, Targets<W> targets, Focus<W> focus, W* sums) {
  __shared__ W warps[kThreads / kWarp];
  W sum = 0;
  for (int64_t i = first_item(); i < count; i += item_step()) {
    sum += loss_at(x, targets, focus, i);
  }
  sum = warp_sum(sum);
  if (threadIdx.x % kWarp == 0) warps[threadIdx.x / kWarp] = sum;
  __syncthreads();
  if (threadIdx.x != 0) return;
  for (int warp = 1; warp < kThreads / kWarp; ++warp) sum += warps[warp];
  sums[blockIdx.x] = sum;
}

// The gradient of a sum is one number, and so is the step between gradients 0.
template <typename T, typename W>
__global__ void slopes_kernel(
    int64_t count, const T* x, Targets<W> targets, Focus<W> focus, const W* grad,
    int64_t grad_step, T* out) {
  for (int64_t i = first_item(); i < count; i += item_step()) {
    const Target<W> target = target_at(targets, i);
    const W slope = focal_slope<DeviceMath<W>, false>(W(x[i]), target.value, focus);
    out[i] = T(target.counts ? slope * grad[i * grad_step] : W(0));
  }
}

// Owns what the kernels read.
template <typename T>
class FocalLoss {
 public:
  using W = Wide<T>;

  FocalLoss(const Tensor& inputs, const Tensor& targets, double alpha, double gamma)
      : device_(inputs),
        inputs_(torch::stable::contiguous(inputs)),
        by_class_(targets.dim() < inputs.dim()),
        targets_(torch::stable::contiguous(
            by_class_ ? targets : torch::stable::to(targets, kScalarType<W>))),
        focus_(alpha, gamma) {}

  Tensor losses() const {
    Tensor output = torch::stable::new_empty(inputs_, inputs_.sizes(), kScalarType<W>);
    losses_kernel<T, W><<<blocks_for(count(), kThreads), kThreads, 0, device_.stream()>>>(
        count(), logits(), targets(), focus_, output.template mutable_data_ptr<W>());
    check_launch();
    return output;
  }

  Tensor sum() const {
    const unsigned blocks = std::min<int64_t>(blocks_for(count(), kThreads), kMostSums);
    Tensor sums = torch::stable::new_empty(inputs_, {int64_t(blocks)}, kScalarType<W>);
    sums_kernel<T, W><<<blocks, kThreads, 0, device_.stream()>>>(
        count(), logits(), targets(), focus_, sums.template mutable_data_ptr<W>());
    check_launch();
    return torch::stable::sum(sums);
  }

  Tensor backward(const Tensor& grad_output, bool sum) const {
    const Tensor grads =
        torch::stable::contiguous(torch::stable::to(grad_output, kScalarType<W>));
    Tensor output = torch::stable::new_empty(inputs_, inputs_.sizes());
    slopes_kernel<T, W><<<blocks_for(count(), kThreads), kThreads, 0, device_.stream()>>>(
        count(), logits(), targets(), focus_, grads.template const_data_ptr<W>(), sum ? 0 : 1,
        output.template mutable_data_ptr<T>());
    check_launch();
    return output;
  }

 private:
  int64_t count() const { return inputs_.numel(); }
  const T* logits() const { return inputs_.template const_data_ptr<T>(); }

  Targets<W> targets() const {
    if (!by_class_) return {targets_.template const_data_ptr<W>(), nullptr, 1};
    return {nullptr, targets_.template const_data_ptr<int64_t>(), inputs_.size(-1)};
  }

  const OnDevice device_;
  const Tensor inputs_;
  const bool by_class_;
  const Tensor targets_;
  const Focus<W> focus_;
};

Tensor sigmoid_focal_loss(
    const Tensor& inputs, const Tensor& targets, double alpha, double gamma, bool sum) {
  check_targets(inputs, targets);
  return with_floats(inputs.scalar_type(), [&](auto zero) {
    const FocalLoss<decltype(zero)> problem(inputs, targets, alpha, gamma);
    return sum ? problem.sum() : problem.losses();
  });
}

Tensor sigmoid_focal_loss_backward(
    const Tensor& grad_output, const Tensor& inputs, const Tensor& targets, double alpha,
    double gamma, bool sum) {
  check_targets(inputs, targets);
  check_grad_output(grad_output, inputs, sum);
  return with_floats(inputs.scalar_type(), [&](auto zero) {
    return FocalLoss<decltype(zero)>(inputs, targets, alpha, gamma).backward(grad_output, sum);
  });
}

STABLE_TORCH_LIBRARY_IMPL(d2ext, CUDA, library) {
  library.impl("sigmoid_focal_loss", TORCH_BOX(&sigmoid_focal_loss));
  library.impl("sigmoid_focal_loss_backward", TORCH_BOX(&sigmoid_focal_loss_backward));
}

}  // namespace
}  // namespace d2ext
