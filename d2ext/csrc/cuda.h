// What every CUDA source needs of PyTorch: the device, the stream and a check of a launch.

#pragma once

#include <algorithm>
#include <cuda_runtime.h>
#include <torch/csrc/inductor/aoti_torch/c/shim.h>
#include <torch/csrc/stable/accelerator.h>
#include <torch/csrc/stable/tensor.h>

namespace d2ext {

// Makes a tensor's device the current one while it lives, and names the stream to launch on.
class OnDevice {
 public:
  explicit OnDevice(const torch::stable::Tensor& tensor) : guard_(tensor.get_device_index()) {
    void* stream = nullptr;
    STABLE_TORCH_ERROR_CODE_CHECK(
        aoti_torch_get_current_cuda_stream(tensor.get_device_index(), &stream));
    stream_ = static_cast<cudaStream_t>(stream);
  }

  cudaStream_t stream() const { return stream_; }

 private:
  torch::stable::accelerator::DeviceGuard guard_;
  cudaStream_t stream_;
};

// Blocks for `count` items; kernels step over the items by the grid, so that any count works.
inline unsigned blocks_for(int64_t count, int64_t threads) {
  return unsigned(std::min<int64_t>((count + threads - 1) / threads, int64_t(1) << 30));
}

inline void check_launch() { STD_CUDA_KERNEL_LAUNCH_CHECK(); }

}  // namespace d2ext
