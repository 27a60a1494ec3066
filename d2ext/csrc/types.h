// From the type of a tensor's numbers to the C++ types that a kernel is compiled for. Half types are
// computed in float.

#pragma once

#include <torch/headeronly/core/ScalarType.h>
#include <torch/headeronly/util/BFloat16.h>
#include <torch/headeronly/util/Half.h>

namespace d2ext {

template <typename T>
constexpr torch::headeronly::ScalarType kTypeOf =
    torch::headeronly::CppTypeToScalarType<T>::value;

// Calls run with a zero of the type to compute in.
template <typename F>
auto with_type(torch::headeronly::ScalarType type, const F& run) {
  return type == torch::headeronly::ScalarType::Double ? run(0.0) : run(0.0f);
}

// Calls run with zeros of the type to compute in and of that to read and write.
template <typename F>
auto with_types(torch::headeronly::ScalarType type, const F& run) {
  using torch::headeronly::ScalarType;
  if (type == ScalarType::Double) return run(0.0, 0.0);
  if (type == ScalarType::BFloat16) return run(0.0f, torch::headeronly::BFloat16());
  if (type == ScalarType::Half) return run(0.0f, torch::headeronly::Half());
  return run(0.0f, 0.0f);
}

}  // namespace d2ext
