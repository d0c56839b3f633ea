/* One pass over a run of shards; included once for each instruction set, which defines W, NAME and TABLE. */
#include <stdlib.h>

#include "simd.h"

#include "functions.h"
#include "losses.h"
#include "dense.h"
#include "newton.h"
#include "sparse.h"

static double *zeros(int64_t n) {
    double *p = aligned_alloc(64, (size_t)whole(n > 0 ? n : 1, 8) * sizeof(double));
    if (p) memset(p, 0, (size_t)n * sizeof(double));
    return p;
}

/* [sum of losses, sum r, X' r] of a block, added to out; with G or H its share of the matrix too. */
static void add_block(const struct rows *X, const struct model *m, int64_t start, int64_t stop, double *g,
                      double *out, const struct gram *G, double *H) {
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
        if (G) add_gram(X, row, n, c.h, G);
        if (H) sparse_gram(X, row, n, c.h, H);
    }
    out[0] += sum_lanes(sums.value);
    out[1] += sum_lanes(sums.slope);
    if (!X->indices)
        for (int64_t j = 0; j < X->d; j++) out[2 + j] += g[j];
}

/* [sum h, X' h, upper triangle of X' diag(h) X] */
static void write_matrix(int64_t d, const struct gram *G, const double *H, double *out) {
#define AT(i, j) (H ? H + (i) * (d + 1) + (j) : gram_at(G, i, j))
    *out++ = *AT(d, d);
    for (int64_t i = 0; i < d; i++) *out++ = *AT(i, d);
    for (int64_t i = 0; i < d; i++)
        for (int64_t j = i, stop; j < d; j = stop) {
            stop = H || j / NR * NR + NR > d ? d : j / NR * NR + NR;
            memcpy(out, AT(i, j), (size_t)(stop - j) * sizeof(double));
            out += stop - j;
        }
#undef AT
}

static int sums(const struct rows *X, const struct borders *b, const struct model *m, int hessian, double *out,
                int64_t width) {
    int64_t d = X->d, size = !hessian ? 0 : X->indices ? (d + 1) * (d + 1) : gram_size(d);
    double *g = zeros(whole(d, PANEL)), *work = zeros(size);
    if (!g || !work) {
        free(g);
        free(work);
        return -1;
    }
    struct gram gram = make_gram(d, work);
    const struct gram *G = hessian && !X->indices ? &gram : NULL;
    double *H = hessian && X->indices ? work : NULL;
    for (int64_t shard = 0, piece = 0; shard < b->n_shards; shard++, out += width) {
        memset(out, 0, (size_t)width * sizeof(double));
        if (H) memset(H, 0, (size_t)size * sizeof(double));
        if (G) clear_gram(G);
        for (; piece < b->n_pieces && b->pieces[piece] < b->shards[shard + 1]; piece++)
            add_block(X, m, b->pieces[piece], b->pieces[piece + 1], g, out, G, H);
        if (hessian) write_matrix(d, G, H, out + 2 + d);
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

const struct kernels TABLE = {NAME, sums, predict, terms, read_bytes, softmax_sums, softmax_scores, walk, sweep,
                              squares};
