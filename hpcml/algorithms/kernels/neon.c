/* The kernels for arm64, where vectors and fma are part of every processor. */
#if defined(__aarch64__)
#define W 2
#define NAME "neon"
#define TABLE hpcml_neon
#include "sums.h"
#else
typedef int nothing_for_this_machine;
#endif
