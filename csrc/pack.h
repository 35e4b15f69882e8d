// Packs the weights of products for the kernels of one instruction set, as kernels.h says.
#pragma once

#include "plan.h"

namespace edgepose {

// A product's kernels, and the parts of its packed weights: panels, each with all groups.
struct Packing {
  Type stored;
  Product product;
  int groups, panels;
  long part;  // bytes of one panel of one group

  long bytes() const { return part * groups * panels; }
};

// The packing of weight (k, n) or (groups, k, n). x_bits: as in Step.
Packing packing_of(const Tensor& weight, int x_bits, const Kernels& kernels);

// Writes packing.bytes() bytes: panel after panel, each with all groups, or with by_group group after group, each with
// all panels.
void pack(const Tensor& weight, const Packing& packing, bool by_group, unsigned char* to);

}  // namespace edgepose
