/* One pass over a run of shards; included once for each instruction set, which defines W, NAME and TABLE. */
#include <stdlib.h>

#include "simd.h"

#include "functions.h"
#include "losses.h"
#include "dense.h"
#include "newton.h"
#include "sparse.h"
#include "hessian.h"

static double *zeros(int64_t n) {
    double *p = aligned_alloc(64, (size_t)whole(n > 0 ? n : 1, 8) * sizeof(double));
    if (p) memset(p, 0, (size_t)n * sizeof(double));
    return p;
}

/* [sum of losses, sum r, X' r] of a block, added to out; with G or H its share of the matrix too. */
static void add_block(const struct rows *X, const struct model *m, int64_t start, int64_t stop, double *g,
                      double *out, const struct hessian *H) {
    struct chunk c;
    struct lanes sums;
    UNROLL for (int p = 0; p < P; p++) sums.value[p] = sums.slope[p] = vset(0.0);
    if (!X->indices) memset(g, 0, (size_t)whole(X->d, PANEL) * sizeof(double));
    for (int64_t row = start; row < stop; row += CHUNK) {
        int n = stop - row < CHUNK ? (int)(stop - row) : CHUNK;
        if (X->indices)
            sparse_chunk(X, m, row, n, &c, out + 2, &sums);
        else
            dense_chunk(X, m, row, n, &c, g, &sums);
        if (H) add_hessian(H, X, row, n, c.h);
    }
    out[0] += sum_lanes(sums.value);
    out[1] += sum_lanes(sums.slope);
    if (!X->indices)
        for (int64_t j = 0; j < X->d; j++) out[2 + j] += g[j];
}

static int sums(const struct rows *X, const struct borders *b, const struct model *m, const struct columns *C,
                double *out, int64_t width) {
    double *g = zeros(whole(X->d, PANEL)), *work = zeros(C ? hessian_size(X, C) : 0);
    if (!g || !work) {
        free(g);
        free(work);
        return -1;
    }
    struct hessian hessian;
    const struct hessian *H = C ? &hessian : NULL;
    if (C) hessian = make_hessian(X, C, work);
    for (int64_t shard = 0, piece = 0; shard < b->n_shards; shard++, out += width) {
        memset(out, 0, (size_t)width * sizeof(double));
        if (H) clear_hessian(H);
        for (; piece < b->n_pieces && b->pieces[piece] < b->shards[shard + 1]; piece++)
            add_block(X, m, b->pieces[piece], b->pieces[piece + 1], g, out, H);
        if (H) write_hessian(H, out + 2 + X->d);
    }
    free(g);
    free(work);
    return 0;
}

#include "sgd.h"

static void predict(const struct rows *X, const double *coef, double intercept, double *z) {
    for (int64_t row = 0; row < X->n; row += CHUNK) {
        int n = X->n - row < CHUNK ? (int)(X->n - row) : CHUNK;
        const char *x = X->x + row * X->stride;
        struct ahead ahead = {x + n * X->stride, 64};
        if (X->indices)
            for (int i = 0; i < n; i++) z[row + i] = sparse_dot(X, row + i, coef, X->is_single);
        else if (X->is_single)
            dots(X, x, n, coef, z + row, &ahead, 1);
        else
            dots(X, x, n, coef, z + row, &ahead, 0);
        for (int i = 0; i < n; i++) z[row + i] += intercept;
    }
}

/* The fastest plain read of the same bytes: what a kernel is measured against. */
static double read_bytes(const char *x, int64_t n_bytes) {
    vec s[8];
    UNROLL for (int i = 0; i < 8; i++) s[i] = vset(0.0);
    int64_t step = 8 * W * 8, at = 0;
    for (; at + step <= n_bytes; at += step)
        UNROLL for (int i = 0; i < 8; i++) s[i] += vload((const double *)(x + at) + i * W);
    double total = 0.0;
    for (int i = 0; i < 8; i++) total += ((const double *)&s[i])[0];
    return total;
}

#include "softmax.h"
#include "sweeps.h"
#include "moments.h"
#include "nearest.h"
#include "history.h"

const struct kernels TABLE = {NAME, sums, predict, terms, read_bytes, softmax_sums, softmax_scores, walk, sweep,
                              squares, nearest, cluster_sums, inverse_product};
