#include "pack.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "tensors.h"

namespace edgepose {

namespace {

bool fits_half_sums(const Tensor& weight) {
  for (long i = 0; i < elements(weight); i++)
    if (!(std::fabs(element(weight, i)) <= kMostHalfWeight)) return false;
  return true;
}

int rows_of(const Tensor& weight) { return weight.shape.end()[-2]; }
int columns_of(const Tensor& weight) { return weight.shape.back(); }

long index_of(const Tensor& weight, int group, int i, int column) {
  return ((long)group * rows_of(weight) + i) * columns_of(weight) + column;
}

// What a pair of weights exceeds kMostPair by: to be subtracted from one of them. Both have its sign.
int excess(int a, int b) {
  const int above = std::max(a, 0) + std::max(b, 0) - kMostPair, below = std::min(a, 0) + std::min(b, 0) + kMostPair;
  return above > 0 ? above : std::min(below, 0);
}

// The excess of weight i of a column; of a pair the first has it all.
int excess_at(const Tensor& weight, int group, int i, int column) {
  const auto* numbers = static_cast<const std::int8_t*>(weight.data);
  if (i % 2 || i + 1 == rows_of(weight)) return 0;
  return excess(numbers[index_of(weight, group, i, column)], numbers[index_of(weight, group, i + 1, column)]);
}

int leftovers_of(const Tensor& weight, int group, int first) {
  int count = 0;
  for (int i = 0; i < rows_of(weight); i++)
    for (int c = first; c < first + kPanelColumns && c < columns_of(weight); c++)
      count += excess_at(weight, group, i, c) != 0;
  return count;
}

// Packs one panel of one group, from column `first` on.
void pack_part(const Tensor& weight, const Packing& packing, int group, int first, unsigned char* to) {
  const int k = rows_of(weight), depth = packing.product.depth, bytes = bytes_of(packing.stored);
  auto* sums = reinterpret_cast<std::int32_t*>(to);
  unsigned char* numbers = to + panel_sums(depth);
  auto* count = reinterpret_cast<std::int32_t*>(to + panel_bytes(packing.stored, depth, k));
  auto* leftovers = reinterpret_cast<Leftover*>(count + 1);
  std::memset(to, 0, packing.part);
  for (int i = 0; i < k; i++)
    for (int c = 0; c < kPanelColumns && first + c < columns_of(weight); c++) {
      const long from = index_of(weight, group, i, first + c);
      unsigned char* at = numbers + bytes * ((long)(i / depth * kPanelColumns + c) * depth + i % depth);
      if (packing.stored == weight.type) {
        std::memcpy(at, static_cast<const unsigned char*>(weight.data) + bytes * from, bytes);
      } else {  // widened
        const float number = element(weight, from);
        std::memcpy(at, &number, sizeof number);
      }
      if (depth > 1) sums[c] += static_cast<const std::int8_t*>(weight.data)[from];
      if (!packing.product.has_leftovers) continue;
      if (const int left = excess_at(weight, group, i, first + c)) {
        *reinterpret_cast<std::int8_t*>(at) -= (std::int8_t)left;
        leftovers[(*count)++] = {(std::uint16_t)i, (std::uint8_t)c, (std::int8_t)left};
      }
    }
}

}  // namespace

Packing packing_of(const Tensor& weight, int x_bits, const Kernels& kernels) {
  Packing packing{weight.type, {}, weight.shape.size() == 3 ? weight.shape[0] : 1,
                  round_up(columns_of(weight), kPanelColumns) / kPanelColumns, 0};
  Multiplied as = x_bits == 16 ? Multiplied::i16 : x_bits == 8 ? Multiplied::i8 : Multiplied::f32;
  if (!x_bits && kernels.product(weight.type, Multiplied::f16).linear && fits_half_sums(weight)) as = Multiplied::f16;
  // Where the CPU cannot widen half precision, the weights are widened when they are packed.
  if (!kernels.product(packing.stored, as).linear) packing.stored = Type::f32;
  packing.product = kernels.product(packing.stored, as);
  int most = 0;
  for (int group = 0; packing.product.has_leftovers && group < packing.groups; group++)
    for (int panel = 0; panel < packing.panels; panel++)
      most = std::max(most, leftovers_of(weight, group, panel * kPanelColumns));
  packing.part = panel_bytes(packing.stored, packing.product.depth, rows_of(weight));
  if (packing.product.has_leftovers) packing.part = (packing.part + 4 + most * (long)sizeof(Leftover) + 63) / 64 * 64;
  return packing;
}

void pack(const Tensor& weight, const Packing& packing, bool by_group, unsigned char* to) {
  for (int panel = 0; panel < packing.panels; panel++)
    for (int group = 0; group < packing.groups; group++) {
      const long at = by_group ? (long)group * packing.panels + panel : (long)panel * packing.groups + group;
      pack_part(weight, packing, group, panel * kPanelColumns, to + at * packing.part);
    }
}

}  // namespace edgepose
