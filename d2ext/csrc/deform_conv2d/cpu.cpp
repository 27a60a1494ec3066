// Deformable convolution on the CPU, of one map or of the levels of a pyramid that share weights.

#include "columns.h"
#include "panels.h"
#include "problem.h"

namespace d2ext {
namespace {

using Tensors = std::vector<Tensor>;

template <typename T>
std::vector<Operands<T>> operands_of(
    const std::vector<DeformConvShape>& shapes, const Tensors& inputs, const Tensors& offsets,
    const Tensors& masks) {
  std::vector<Operands<T>> levels;
  for (size_t i = 0; i < shapes.size(); ++i) {
    const std::optional<Tensor> mask = masks.empty() ? std::nullopt : std::optional(masks[i]);
    levels.emplace_back(shapes[i], inputs[i], offsets[i], mask);
  }
  return levels;
}

std::vector<DeformConvShape> shapes_of(
    const Tensors& inputs, const Tensors& offsets, const Tensor& weight, const Tensors& masks,
    const Pair& stride, const Pair& padding, const Pair& dilation) {
  const size_t count = inputs.size();
  STD_TORCH_CHECK(
      count > 0 && offsets.size() == count && (masks.empty() || masks.size() == count),
      "inputs, offsets and masks differ in number, or there are none");
  std::vector<DeformConvShape> shapes;
  for (size_t i = 0; i < count; ++i) {
    const std::optional<Tensor> mask = masks.empty() ? std::nullopt : std::optional(masks[i]);
    shapes.push_back(shape_of(inputs[i], offsets[i], weight, mask, stride, padding, dilation));
    STD_TORCH_CHECK(
        shapes[i].channels == shapes[0].channels &&
            shapes[i].offset_groups == shapes[0].offset_groups &&
            inputs[i].scalar_type() == inputs[0].scalar_type(),
        "levels differ in channels, offset groups or dtype");
  }
  return shapes;
}

template <typename T>
Tensor bias_in(const std::optional<Tensor>& bias, const Tensor& weight) {
  if (bias) return Operands<T>::in_order(*bias);
  return torch::stable::new_zeros(weight, {weight.size(0)}, kTypeOf<T>);
}

bool uses_columns(const Tensor& input) {
  return input.scalar_type() == kTypeOf<BFloat16> && multiplies_bfloat16();
}

Tensors deform_conv2d_levels(
    const Tensors& inputs, const Tensors& offsets, const Tensor& weight,
    const std::optional<Tensor>& bias, const Tensors& masks, const Pair& stride,
    const Pair& padding, const Pair& dilation) {
  const std::vector<DeformConvShape> shapes =
      shapes_of(inputs, offsets, weight, masks, stride, padding, dilation);
  check_bias(bias, shapes[0], inputs[0]);
  if (uses_columns(inputs[0])) {
    const auto levels = operands_of<float>(shapes, inputs, offsets, masks);
    return ColumnsConv(levels, weight).forward(bias_in<float>(bias, weight));
  }
  return with_type(inputs[0].scalar_type(), [&](auto zero) {
    using T = decltype(zero);
    const Kernels<T> kernels(shapes[0], weight);
    const Tensor panels = kernels.forward_panels(), terms = bias_in<T>(bias, weight);
    Tensors outputs;
    for (const Operands<T>& level : operands_of<T>(shapes, inputs, offsets, masks)) {
      const Tensor output = forward(level, kernels, panels, terms);
      outputs.push_back(torch::stable::to(output, inputs[0].scalar_type()));
    }
    return outputs;
  });
}

std::tuple<Tensors, Tensors, Tensor, Tensors> deform_conv2d_levels_backward(
    const Tensors& grad_outputs, const Tensors& inputs, const Tensors& offsets,
    const Tensor& weight, const Tensors& masks, const Pair& stride, const Pair& padding,
    const Pair& dilation, bool needs_input, bool needs_positions, bool needs_weight) {
  const Needs needs{needs_input, needs_positions, needs_weight};
  const std::vector<DeformConvShape> shapes =
      shapes_of(inputs, offsets, weight, masks, stride, padding, dilation);
  STD_TORCH_CHECK(grad_outputs.size() == inputs.size(), "grad_outputs differ in number");
  for (size_t i = 0; i < shapes.size(); ++i) {
    check_grad_output(grad_outputs[i], shapes[i], inputs[i]);
  }
  const std::vector<Gradients> grads = with_type(inputs[0].scalar_type(), [&](auto zero) {
    using T = decltype(zero);
    const auto levels = operands_of<T>(shapes, inputs, offsets, masks);
    if constexpr (std::is_same_v<T, float>) {
      if (uses_columns(inputs[0])) {
        return ColumnsConv(levels, weight).backward(grad_outputs, needs, weight);
      }
    }
    return backward(levels, weight, grad_outputs, needs);
  });
  Tensors grad_inputs, grad_offsets, grad_masks;
  for (size_t i = 0; i < grads.size(); ++i) {
    grad_inputs.push_back(grads[i].input_like(inputs[i], needs));
    grad_offsets.push_back(grads[i].offset_like(offsets[i], needs));
    if (!masks.empty()) grad_masks.push_back(grads[i].mask_like(masks[i], needs));
  }
  return {grad_inputs, grad_offsets, grads[0].weight_like(weight, needs), grad_masks};
}

// ---- a single map

Tensors as_list(const std::optional<Tensor>& tensor) {
  return tensor ? Tensors{*tensor} : Tensors{};
}

Tensor deform_conv2d(
    const Tensor& input, const Tensor& offset, const Tensor& weight,
    const std::optional<Tensor>& bias, const std::optional<Tensor>& mask, const Pair& stride,
    const Pair& padding, const Pair& dilation) {
  return deform_conv2d_levels(
      {input}, {offset}, weight, bias, as_list(mask), stride, padding, dilation)[0];
}

FourTensors deform_conv2d_backward(
    const Tensor& grad_output, const Tensor& input, const Tensor& offset, const Tensor& weight,
    const std::optional<Tensor>& mask, const Pair& stride, const Pair& padding,
    const Pair& dilation, bool needs_input, bool needs_positions, bool needs_weight) {
  const auto [inputs, offsets, grad_weight, masks] = deform_conv2d_levels_backward(
      {grad_output}, {input}, {offset}, weight, as_list(mask), stride, padding, dilation,
      needs_input, needs_positions, needs_weight);
  const Tensor grad_mask = masks.empty() ? torch::stable::new_empty(input, {0}) : masks[0];
  return {inputs[0], offsets[0], grad_weight, grad_mask};
}

STABLE_TORCH_LIBRARY_IMPL(d2ext, CPU, library) {
  library.impl("deform_conv2d", TORCH_BOX(&deform_conv2d));
  library.impl("deform_conv2d_backward", TORCH_BOX(&deform_conv2d_backward));
  library.impl("deform_conv2d_levels", TORCH_BOX(&deform_conv2d_levels));
  library.impl("deform_conv2d_levels_backward", TORCH_BOX(&deform_conv2d_levels_backward));
}

}  // namespace
}  // namespace d2ext
