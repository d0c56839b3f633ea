/* Products with a few dense rows: z = X w by rows, g += X' r by panels of columns. */

enum { PANEL = 16, V = PANEL / W }; /* columns whose sums stay in registers, and their vectors */

/* Rows that are used twice while they lie in the first cache, and how far ahead memory is asked for. */
enum { TILE_ROWS = 16, TILE_BYTES = 16384, AHEAD = 4096 };

INLINE vec row_load(const char *row, int64_t j, int is_single) {
    return is_single ? vload_single((const float *)row + j) : vload((const double *)row + j);
}

INLINE vec row_part(const char *row, int64_t j, part m, int is_single) {
    return is_single ? vload_single_part((const float *)row + j, m) : vload_part((const double *)row + j, m);
}

/* z of 4 rows, which may be the same, in 8 lanes by column; d is a number of whole lanes, `full` vectors
   and maybe a part of one. */
INLINE void dot4(const char *const row[4], int64_t whole, const double *w, int full, int tail, part m, double *z,
                 int is_single) {
    vec sum[4][P];
    UNROLL for (int r = 0; r < 4; r++) UNROLL for (int p = 0; p < P; p++) sum[r][p] = vset(0.0);
    for (int64_t j = 0; j < whole; j += LANES)
        UNROLL for (int p = 0; p < P; p++) {
            vec wp = vload(w + j + p * W);
            UNROLL for (int r = 0; r < 4; r++)
                sum[r][p] = vfma(row_load(row[r], j + p * W, is_single), wp, sum[r][p]);
        }
    UNROLL for (int p = 0; p < full; p++) {
        vec wp = vload(w + whole + p * W);
        UNROLL for (int r = 0; r < 4; r++)
            sum[r][p] = vfma(row_load(row[r], whole + p * W, is_single), wp, sum[r][p]);
    }
    if (tail) {
        vec wp = vload(w + whole + full * W);
        UNROLL for (int r = 0; r < 4; r++)
            sum[r][full] = vfma(row_part(row[r], whole + full * W, m, is_single), wp, sum[r][full]);
    }
    sum_lanes4(sum, z);
}

INLINE void dots_as(const struct rows *X, const char *x, int n, const double *w, double *z, int full, int tail,
                    int is_single) {
    int64_t whole = X->d / LANES * LANES;
    part m = part_of(X->d % W);
    const char *row[4];
    int i = 0;
    for (; i + 4 <= n; i += 4) {
        UNROLL for (int r = 0; r < 4; r++) row[r] = x + (i + r) * X->stride;
        dot4(row, whole, w, full, tail, m, z + i, is_single);
    }
    if (i < n) {
        double last[4];
        UNROLL for (int r = 0; r < 4; r++) row[r] = x + (i + r < n ? i + r : i) * X->stride;
        dot4(row, whole, w, full, tail, m, last, is_single);
        for (int r = 0; i + r < n; r++) z[i + r] = last[r];
    }
}

INLINE void dots(const struct rows *X, const char *x, int n, const double *w, double *z, int is_single) {
    int rest = (int)(X->d % LANES);
    switch (2 * (rest / W) + (rest % W != 0)) {
#define CASE(full) \
    case 2 * (full): dots_as(X, x, n, w, z, full, 0, is_single); break; \
    case 2 * (full) + 1: dots_as(X, x, n, w, z, full, 1, is_single); break;
        CASE(0)
#if W <= 4
        CASE(1)
#endif
#if W <= 2
        CASE(2)
        CASE(3)
#endif
#undef CASE
    }
}

/* g[0 .. 16) += X' r over n rows of a panel that has `full` whole vectors and maybe a part of one.
   Even and odd rows are summed apart, which halves the wait for the adder. */
INLINE void panel(const char *x, ptrdiff_t stride, int n, const double *r, double *g, int full, int tail,
                  part m, ptrdiff_t ahead, int is_single) {
    vec even[V], odd[V];
    UNROLL for (int v = 0; v < full + tail; v++) {
        even[v] = vload(g + v * W);
        odd[v] = vset(0.0);
    }
    int i = 0;
    for (; i + 2 <= n; i += 2) {
        const char *second = x + stride;
        vec r0 = vset(r[i]), r1 = vset(r[i + 1]);
        __builtin_prefetch(x + ahead);
        __builtin_prefetch(second + ahead);
        if (!is_single) {
            __builtin_prefetch(x + ahead + 64);
            __builtin_prefetch(second + ahead + 64);
        }
        UNROLL for (int v = 0; v < full; v++) {
            even[v] = vfma(row_load(x, v * W, is_single), r0, even[v]);
            odd[v] = vfma(row_load(second, v * W, is_single), r1, odd[v]);
        }
        if (tail) {
            even[full] = vfma(row_part(x, full * W, m, is_single), r0, even[full]);
            odd[full] = vfma(row_part(second, full * W, m, is_single), r1, odd[full]);
        }
        x = second + stride;
    }
    if (i < n) {
        vec r0 = vset(r[i]);
        UNROLL for (int v = 0; v < full; v++) even[v] = vfma(row_load(x, v * W, is_single), r0, even[v]);
        if (tail) even[full] = vfma(row_part(x, full * W, m, is_single), r0, even[full]);
    }
    UNROLL for (int v = 0; v < full + tail; v++) vstore(g + v * W, even[v] + odd[v]);
}

INLINE void last_panel(const char *x, ptrdiff_t stride, int n, const double *r, double *g, int64_t columns,
                       ptrdiff_t ahead, int is_single) {
    part m = part_of(columns % W);
#define CASE(full) \
    case 2 * (full): panel(x, stride, n, r, g, full, 0, m, ahead, is_single); break; \
    case 2 * (full) + 1: panel(x, stride, n, r, g, full, 1, m, ahead, is_single); break;
    switch (2 * (columns / W) + (columns % W != 0)) {
        CASE(0)
        CASE(1)
#if W <= 4
        CASE(2)
        CASE(3)
#endif
#if W <= 2
        CASE(4)
        CASE(5)
        CASE(6)
        CASE(7)
#endif
    }
#undef CASE
}

INLINE void add_rows(const struct rows *X, const char *x, int n, const double *r, double *g, ptrdiff_t ahead,
                     int is_single) {
    part none = part_of(0);
    int64_t j = 0, size = is_single ? 4 : 8;
    for (; j + PANEL <= X->d; j += PANEL)
        panel(x + j * size, X->stride, n, r, g + j, V, 0, none, ahead, is_single);
    if (j < X->d) last_panel(x + j * size, X->stride, n, r, g + j, X->d - j, ahead, is_single);
}

/* Rows of a tile: a power of two, at least 4. */
INLINE int tile_rows(int64_t row_bytes) {
    int n = TILE_ROWS;
    while (n > 4 && n * row_bytes > TILE_BYTES) n /= 2;
    return n;
}

/* z, link terms and g += X' r of a chunk. */
INLINE void dense_chunk_as(const struct rows *X, const struct model *m, int64_t row, int n, struct chunk *c,
                           double *g, struct lanes *sums, int is_single) {
    int step = tile_rows(X->d * (is_single ? 4 : 8));
    for (int at = 0; at < n; at += step) {
        int count = n - at < step ? n - at : step;
        const char *x = X->x + (row + at) * X->stride;
        struct chunk tile;
        dots(X, x, count, m->coef, tile.z, is_single);
        gather_rows(m, row + at, count, &tile);
        link(&m->loss, &tile, (count + LANES - 1) & ~(LANES - 1), sums);
        add_rows(X, x, count, tile.r, g, AHEAD, is_single);
        memcpy(c->h + at, tile.h, (size_t)count * sizeof(double));
    }
}

static void dense_chunk(const struct rows *X, const struct model *m, int64_t row, int n, struct chunk *c,
                        double *g, struct lanes *sums) {
    if (X->is_single)
        dense_chunk_as(X, m, row, n, c, g, sums, 1);
    else
        dense_chunk_as(X, m, row, n, c, g, sums, 0);
}
