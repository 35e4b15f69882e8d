// Instruction sets that older compilers do not know, or whose intrinsics they give to whole files only.
#pragma once

#if defined(__clang__) ? __clang_major__ >= 16 : __GNUC__ >= 10
#define EP_KNOWS_ARM_V8_2
#endif
