/* Softmax of k classes over a tile of rows that stays in the cache: z = X W', link terms, G += X' r.

   Weights and gradient lie feature by feature with the k classes beside each other, `kp` of them with zeros up
   to whole vectors: an element of X is met by all classes at once, and each sum has its own place in a vector.
   So sums over features and over rows run in order, whatever the width of a vector. */

enum { TILE = 16 };
#if W == 8
enum { ROW_BLOCK = 8, COLUMN_BLOCK = 8, MOST_VECTORS = 2 };
#elif W == 4
enum { ROW_BLOCK = 4, COLUMN_BLOCK = 4, MOST_VECTORS = 3 };
#else
enum { ROW_BLOCK = 4, COLUMN_BLOCK = 4, MOST_VECTORS = 4 };
#endif

/* CALL with a number of vectors that the compiler knows. */
#define EACH_VECTORS(n, CALL) \
    switch (n) { \
    case 1: CALL(1); break; \
    case 2: CALL(2); break; \
    case 3: CALL(3); break; \
    default: CALL(4); break; \
    }

struct tile {
    int64_t d, k, kp;
    const double *w;      /* (d, kp) */
    double *block, *sums; /* (d in whole COLUMN_BLOCKs, kp): of a block, and of a shard */
    double *rows;         /* (TILE, d): float32 rows as doubles */
    double *z;            /* (TILE, kp): raw predictions, then weighted slopes */
    double *by_class;     /* (k, TILE): the same, classes apart */
    double *known;        /* (k, TILE): probabilities that were given */
    double *slope;        /* (k, LANES): sums of slopes of a block */
    vec value[P];
};

/* log(1 + x) for x >= 0. */
INLINE vec vlog1p(vec x) {
    vec s = x + 1.0;
    ivec bits = (ivec)s, is_small = s < vset(2.0);
    vec whole_part = (vec)((bits >> 52) | 0x4330000000000000) - 0x1.00000000003ffp52;
    vec rest = (vec)((bits & 0x000fffffffffffff) | 0x3ff0000000000000) - 1.0;
    vec f = vpick(is_small, x, rest), e = vpick(is_small, vset(0.0), whole_part);
    vec q = f / (f + 2.0), t = q * q;
    vec half = vfma(q * t, atanh_rest(t), q);
    return vfma(e, vset(0x1.62e42fefa39efp-1), vfma(e, vset(0x1.abc9e3b39803fp-56), half * 2.0));
}

/* z of a block of rows, of `n` vectors of classes. */
INLINE void score_rows(const double *const x[ROW_BLOCK], int64_t d, const double *w, int64_t kp, double *z, int n) {
    vec sum[ROW_BLOCK][MOST_VECTORS];
    UNROLL for (int r = 0; r < ROW_BLOCK; r++) UNROLL for (int v = 0; v < n; v++) sum[r][v] = vset(0.0);
    for (int64_t j = 0; j < d; j++) {
        vec wj[MOST_VECTORS];
        UNROLL for (int v = 0; v < n; v++) wj[v] = vload(w + j * kp + v * W);
        UNROLL for (int r = 0; r < ROW_BLOCK; r++) {
            vec xj = vset(x[r][j]);
            UNROLL for (int v = 0; v < n; v++) sum[r][v] = vfma(xj, wj[v], sum[r][v]);
        }
    }
    UNROLL for (int r = 0; r < ROW_BLOCK; r++)
        UNROLL for (int v = 0; v < n; v++) vstore(z + r * kp + v * W, sum[r][v]);
}

/* G += X' r for a block of columns, the last one repeated where there are fewer, and n vectors of classes. */
INLINE void add_columns(const double *x, ptrdiff_t stride, int rows, int last, const double *r, int64_t kp, double *g,
                        int n) {
    vec sum[COLUMN_BLOCK][MOST_VECTORS];
    UNROLL for (int j = 0; j < COLUMN_BLOCK; j++)
        UNROLL for (int v = 0; v < n; v++) sum[j][v] = vload(g + j * kp + v * W);
    for (int i = 0; i < rows; i++, x += stride, r += kp) {
        vec ri[MOST_VECTORS];
        UNROLL for (int v = 0; v < n; v++) ri[v] = vload(r + v * W);
        UNROLL for (int j = 0; j < COLUMN_BLOCK; j++) {
            vec xj = vset(x[j < last ? j : last]);
            UNROLL for (int v = 0; v < n; v++) sum[j][v] = vfma(xj, ri[v], sum[j][v]);
        }
    }
    UNROLL for (int j = 0; j < COLUMN_BLOCK; j++)
        UNROLL for (int v = 0; v < n; v++) vstore(g + j * kp + v * W, sum[j][v]);
}

/* Dense rows as doubles, where they lie or copied. */
static const double *tile_of(const struct rows *X, int64_t row, int n, double *copy, ptrdiff_t *stride) {
    const char *x = X->x + row * X->stride;
    *stride = X->is_single ? X->d : X->stride / (ptrdiff_t)sizeof(double);
    if (!X->is_single) return (const double *)x;
    for (int i = 0; i < n; i++) {
        const float *from = (const float *)(x + i * X->stride);
        for (int64_t j = 0; j < X->d; j++) copy[i * X->d + j] = (double)from[j];
    }
    return copy;
}

static void dense_scores(const struct tile *t, const double *x, ptrdiff_t stride, int n) {
    for (int i = 0; i < n; i += ROW_BLOCK) {
        const double *row[ROW_BLOCK];
        for (int r = 0; r < ROW_BLOCK; r++) row[r] = x + (i + r < n ? i + r : n - 1) * stride;
        for (int64_t c = 0; c < t->kp; c += MOST_VECTORS * W) {
            int64_t left = (t->kp - c) / W;
#define CALL(v) score_rows(row, t->d, t->w + c, t->kp, t->z + i * t->kp + c, v < MOST_VECTORS ? v : MOST_VECTORS)
            EACH_VECTORS(left < MOST_VECTORS ? left : MOST_VECTORS, CALL)
#undef CALL
        }
    }
}

static void dense_add(const struct tile *t, const double *x, ptrdiff_t stride, int n) {
    for (int64_t c = 0; c < t->kp; c += MOST_VECTORS * W) {
        int64_t left = (t->kp - c) / W, most = left < MOST_VECTORS ? left : MOST_VECTORS, j = 0;
#define BLOCK(v, last) \
    add_columns(x + j, stride, n, last, t->z + c, t->kp, t->block + j * t->kp + c, v < MOST_VECTORS ? v : MOST_VECTORS)
#define CALL(v) \
    for (; j + COLUMN_BLOCK <= t->d; j += COLUMN_BLOCK) BLOCK(v, COLUMN_BLOCK - 1); \
    if (j < t->d) BLOCK(v, (int)(t->d - 1 - j))
        EACH_VECTORS(most, CALL)
#undef CALL
#undef BLOCK
    }
}

static void sparse_scores(const struct rows *X, const struct tile *t, int64_t row, int n) {
    for (int i = 0; i < n; i++) {
        double *z = t->z + i * t->kp;
        memset(z, 0, (size_t)t->kp * sizeof(double));
        for (int64_t e = pointer(X, row + i), stop = pointer(X, row + i + 1); e < stop; e++) {
            const double *w = t->w + X->indices[e] * t->kp;
            vec x = vset(entry(X, e, X->is_single));
            for (int64_t c = 0; c < t->kp; c += W) vstore(z + c, vfma(x, vload(w + c), vload(z + c)));
        }
    }
}

static void sparse_add_classes(const struct rows *X, const struct tile *t, int64_t row, int n) {
    for (int i = 0; i < n; i++) {
        const double *r = t->z + i * t->kp;
        for (int64_t e = pointer(X, row + i), stop = pointer(X, row + i + 1); e < stop; e++) {
            double *g = t->block + X->indices[e] * t->kp;
            vec x = vset(entry(X, e, X->is_single));
            for (int64_t c = 0; c < t->kp; c += W) vstore(g + c, vfma(x, vload(r + c), vload(g + c)));
        }
    }
}

/* loss = log sum exp(z) - z_y and r = s (p - e_y) for W rows; p - 1 of the row's class is minus the rest of p. */
INLINE vec softmax_link(const struct classes *m, double *by_class, vec y, vec s) {
    vec top = vset(-INFINITY), own = vset(0.0), sum = vset(0.0), rest = vset(0.0);
    for (int64_t c = 0; c < m->k; c++) {
        vec z = vload(by_class + c * TILE);
        top = vpick(z > top, z, top);
        own = vpick(y == vset(m->labels[c]), z, own);
    }
    for (int64_t c = 0; c < m->k; c++) {
        vec e = vexp_as(vload(by_class + c * TILE) - top, 1);
        vstore(by_class + c * TILE, e);
        sum += e;
        rest += (vec)((ivec)e & ~(y == vset(m->labels[c])));
    }
    vec share = s / sum;
    for (int64_t c = 0; c < m->k; c++) {
        vec e = vload(by_class + c * TILE);
        vstore(by_class + c * TILE, vpick(y == vset(m->labels[c]), -rest, e) * share);
    }
    /* sum - sum is NaN where a z was, which the logarithm does not see. */
    return s * ((top - own) + vlog1p(vpick(own == top, rest, sum - 1.0)) + (sum - sum));
}

/* half q' h q and r = s h q for W rows, with h = diag(p) - p p'. */
INLINE vec product_link(const struct classes *m, double *by_class, const double *known, vec s) {
    vec mean = vset(0.0), square = vset(0.0);
    for (int64_t c = 0; c < m->k; c++) mean = vfma(vload(known + c * TILE), vload(by_class + c * TILE), mean);
    for (int64_t c = 0; c < m->k; c++) {
        vec p = vload(known + c * TILE), q = vload(by_class + c * TILE) - mean;
        square = vfma(p * q, q, square);
        vstore(by_class + c * TILE, s * p * q);
    }
    return s * square * 0.5;
}

/* From z to weighted slopes in a tile, and their sums in 8 lanes by row. */
static void link_tile(const struct classes *m, struct tile *t, int64_t row, int n) {
    double y[TILE] = {0.0}, s[TILE] = {0.0};
    for (int i = 0; i < n; i++) {
        y[i] = m->y ? m->y[row + i] : 0.0;
        s[i] = m->weight ? m->weight[row + i] : 1.0;
    }
    for (int64_t c = 0; c < t->k; c++)
        for (int i = 0; i < TILE; i++) {
            t->by_class[c * TILE + i] = (i < n ? t->z[i * t->kp + c] : 0.0) + m->intercept[c];
            if (m->known) t->known[c * TILE + i] = i < n ? m->known[(row + i) * t->k + c] : 0.0;
        }
    for (int i = 0; i < TILE; i += LANES)
        for (int p = 0; p < P; p++) {
            int at = i + p * W;
            vec weight = vload(s + at);
            t->value[p] += m->known ? product_link(m, t->by_class + at, t->known + at, weight)
                                    : softmax_link(m, t->by_class + at, vload(y + at), weight);
            for (int64_t c = 0; c < t->k; c++) {
                double *to = t->slope + c * LANES + p * W;
                vstore(to, vload(to) + vload(t->by_class + c * TILE + at));
            }
        }
    for (int64_t c = 0; c < t->k; c++)
        for (int i = 0; i < n; i++) t->z[i * t->kp + c] = t->by_class[c * TILE + i];
}

static int make_tile(const struct rows *X, const struct classes *m, struct tile *t, double **memory) {
    int64_t d = X->d, k = m->k, kp = whole(k, W), all = whole(d, COLUMN_BLOCK) * kp;
    int64_t copied = X->is_single && !X->indices ? TILE * d : 0;
    double *at = *memory = zeros(3 * whole(all, 8) + TILE * whole(kp, 8) + 2 * TILE * k + LANES * k + copied);
    if (!at) return -1;
    for (int64_t j = 0; j < d; j++)
        for (int64_t c = 0; c < k; c++) at[j * kp + c] = m->coef[c * d + j];
    *t = (struct tile){.d = d, .k = k, .kp = kp, .w = at};
    t->block = at += whole(all, 8);
    t->sums = at += whole(all, 8);
    t->z = at += whole(all, 8);
    t->by_class = at += TILE * whole(kp, 8);
    t->known = at += TILE * k;
    t->slope = at += TILE * k;
    t->rows = at + LANES * k;
    return 0;
}

/* The sums of a block, added to those of its shard. */
static void add_softmax_block(const struct rows *X, const struct classes *m, int64_t start, int64_t stop,
                              struct tile *t, double *out) {
    int64_t all = whole(t->d, COLUMN_BLOCK) * t->kp;
    memset(t->block, 0, (size_t)all * sizeof(double));
    memset(t->slope, 0, (size_t)(t->k * LANES) * sizeof(double));
    UNROLL for (int p = 0; p < P; p++) t->value[p] = vset(0.0);
    for (int64_t row = start; row < stop; row += TILE) {
        int n = stop - row < TILE ? (int)(stop - row) : TILE;
        ptrdiff_t stride = 0;
        const double *x = X->indices ? NULL : tile_of(X, row, n, t->rows, &stride);
        if (x)
            dense_scores(t, x, stride, n);
        else
            sparse_scores(X, t, row, n);
        link_tile(m, t, row, n);
        if (x)
            dense_add(t, x, stride, n);
        else
            sparse_add_classes(X, t, row, n);
    }
    for (int64_t i = 0; i < all; i += W) vstore(t->sums + i, vload(t->sums + i) + vload(t->block + i));
    out[0] += sum_lanes(t->value);
    for (int64_t c = 0; c < t->k; c++) {
        vec lanes[P];
        UNROLL for (int p = 0; p < P; p++) lanes[p] = vload(t->slope + c * LANES + p * W);
        out[1 + c] += sum_lanes(lanes);
    }
}

/* [sum of losses, sum r by class, X' r class by class] of each shard. */
static int softmax_sums(const struct rows *X, const struct borders *b, const struct classes *m, double *out) {
    int64_t width = 1 + m->k * (1 + X->d);
    struct tile t;
    double *memory;
    if (make_tile(X, m, &t, &memory)) return -1;
    for (int64_t shard = 0, piece = 0; shard < b->n_shards; shard++, out += width) {
        memset(out, 0, (size_t)width * sizeof(double));
        memset(t.sums, 0, (size_t)(t.d * t.kp) * sizeof(double));
        for (; piece < b->n_pieces && b->pieces[piece] < b->shards[shard + 1]; piece++)
            add_softmax_block(X, m, b->pieces[piece], b->pieces[piece + 1], &t, out);
        for (int64_t c = 0; c < t.k; c++)
            for (int64_t j = 0; j < t.d; j++) out[1 + t.k + c * t.d + j] = t.sums[j * t.kp + c];
    }
    free(memory);
    return 0;
}

/* Raw predictions, (rows, k). */
static int softmax_scores(const struct rows *X, const struct classes *m, double *z) {
    struct tile t;
    double *memory;
    if (make_tile(X, m, &t, &memory)) return -1;
    for (int64_t row = 0; row < X->n; row += TILE) {
        int n = X->n - row < TILE ? (int)(X->n - row) : TILE;
        ptrdiff_t stride = 0;
        if (X->indices)
            sparse_scores(X, &t, row, n);
        else {
            const double *x = tile_of(X, row, n, t.rows, &stride);
            dense_scores(&t, x, stride, n);
        }
        for (int i = 0; i < n; i++)
            for (int64_t c = 0; c < t.k; c++) z[(row + i) * t.k + c] = t.z[i * t.kp + c] + m->intercept[c];
    }
    free(memory);
    return 0;
}
