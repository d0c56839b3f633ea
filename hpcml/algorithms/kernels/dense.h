/* Products with a few dense rows: z = X w by rows, g += X' r by panels of columns. */

enum { PANEL = 16, V = PANEL / W }; /* columns whose sums stay in registers, and their vectors */

enum { TILE_DOUBLES = 2048 }; /* of rows that are used twice while they lie in the first cache */

INLINE vec row_load(const char *row, int64_t j, int is_single) {
    return is_single ? vload_single((const float *)row + j) : vload((const double *)row + j);
}

INLINE vec row_part(const char *row, int64_t j, part m, int is_single) {
    return is_single ? vload_single_part((const float *)row + j, m) : vload_part((const double *)row + j, m);
}

/* Four rows, which may be the same; d is a number of whole lanes, `full` vectors and maybe a part of one. */
struct four {
    const char *row[4];
    double *copy; /* for float32 rows: of the same in float64, zeros up to whole lanes */
    int64_t whole, width;
    part m;
};

INLINE vec four_load(const struct four *x, int r, int64_t j, int is_part, int is_single) {
    vec v = is_part ? row_part(x->row[r], j, x->m, is_single) : row_load(x->row[r], j, is_single);
    if (is_single && x->copy) vstore(x->copy + r * x->width + j, v);
    return v;
}

/* z of 4 rows, in 8 lanes by column. */
INLINE void dot4(const struct four *x, const double *w, int full, int tail, double *z, struct ahead *ahead,
                 int is_single) {
    vec sum[4][P];
    UNROLL for (int r = 0; r < 4; r++) UNROLL for (int p = 0; p < P; p++) sum[r][p] = vset(0.0);
    for (int64_t j = 0; j < x->whole; j += LANES) {
        fetch(ahead, is_single ? 1 : 2);
        UNROLL for (int p = 0; p < P; p++) {
            vec wp = vload(w + j + p * W);
            UNROLL for (int r = 0; r < 4; r++)
                sum[r][p] = vfma(four_load(x, r, j + p * W, 0, is_single), wp, sum[r][p]);
        }
    }
    if (full || tail) fetch(ahead, is_single ? 1 : 2);
    UNROLL for (int p = 0; p < full + tail; p++) {
        vec wp = vload(w + x->whole + p * W);
        UNROLL for (int r = 0; r < 4; r++)
            sum[r][p] = vfma(four_load(x, r, x->whole + p * W, p == full, is_single), wp, sum[r][p]);
    }
    if (is_single && x->copy && (full || tail)) /* the rest of the lanes */
        for (int p = full + tail; p < P; p++)
            UNROLL for (int r = 0; r < 4; r++) vstore(x->copy + r * x->width + x->whole + p * W, vset(0.0));
    sum_lanes4(sum, z);
}

INLINE void dots_as(const struct rows *X, const char *x, int n, const double *w, double *z, double *copy,
                    struct ahead *ahead, int full, int tail, int is_single) {
    int64_t whole = X->d / LANES * LANES, width = whole + (X->d > whole ? LANES : 0);
    struct four four = {.copy = copy, .whole = whole, .width = width, .m = part_of(X->d % W)};
    int i = 0;
    for (; i + 4 <= n; i += 4) {
        UNROLL for (int r = 0; r < 4; r++) four.row[r] = x + (i + r) * X->stride;
        dot4(&four, w, full, tail, z + i, ahead, is_single);
        four.copy += copy ? 4 * width : 0;
    }
    if (i < n) {
        double last[4];
        UNROLL for (int r = 0; r < 4; r++) four.row[r] = x + (i + r < n ? i + r : i) * X->stride;
        dot4(&four, w, full, tail, last, ahead, is_single);
        for (int r = 0; i + r < n; r++) z[i + r] = last[r];
    }
}

INLINE void dots(const struct rows *X, const char *x, int n, const double *w, double *z, double *copy,
                 struct ahead *ahead, int is_single) {
    int rest = (int)(X->d % LANES);
    switch (2 * (rest / W) + (rest % W != 0)) {
#define CASE(full) \
    case 2 * (full): dots_as(X, x, n, w, z, copy, ahead, full, 0, is_single); break; \
    case 2 * (full) + 1: dots_as(X, x, n, w, z, copy, ahead, full, 1, is_single); break;
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
INLINE void panel(const double *x, int64_t width, int n, const double *r, double *g, int full, int tail, part m,
                  struct ahead *ahead, int is_single) {
    vec even[V], odd[V];
    UNROLL for (int v = 0; v < full + tail; v++) {
        even[v] = vload(g + v * W);
        odd[v] = vset(0.0);
    }
    int i = 0;
    for (; i + 2 <= n; i += 2, x += 2 * width) {
        const double *second = x + width;
        fetch(ahead, is_single ? 1 : 2);
        vec r0 = vset(r[i]), r1 = vset(r[i + 1]);
        UNROLL for (int v = 0; v < full; v++) {
            even[v] = vfma(vload(x + v * W), r0, even[v]);
            odd[v] = vfma(vload(second + v * W), r1, odd[v]);
        }
        if (tail) {
            even[full] = vfma(vload_part(x + full * W, m), r0, even[full]);
            odd[full] = vfma(vload_part(second + full * W, m), r1, odd[full]);
        }
    }
    if (i < n) {
        vec r0 = vset(r[i]);
        UNROLL for (int v = 0; v < full; v++) even[v] = vfma(vload(x + v * W), r0, even[v]);
        if (tail) even[full] = vfma(vload_part(x + full * W, m), r0, even[full]);
    }
    UNROLL for (int v = 0; v < full + tail; v++) vstore(g + v * W, even[v] + odd[v]);
}

INLINE void last_panel(const double *x, int64_t width, int n, const double *r, double *g, int64_t columns,
                       struct ahead *ahead, int is_single) {
    part m = part_of(columns % W);
#define CASE(full) \
    case 2 * (full): panel(x, width, n, r, g, full, 0, m, ahead, is_single); break; \
    case 2 * (full) + 1: panel(x, width, n, r, g, full, 1, m, ahead, is_single); break;
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

INLINE void add_rows(const double *x, int64_t width, int n, int64_t d, const double *r, double *g,
                     struct ahead *ahead, int is_single) {
    int64_t j = 0;
    for (; j + PANEL <= d; j += PANEL) panel(x + j, width, n, r, g + j, V, 0, part_of(0), ahead, is_single);
    if (j < d) last_panel(x + j, width, n, r, g + j, d - j, ahead, is_single);
}

/* Rows of a tile: a power of two, at least 4. */
INLINE int tile_rows(int64_t width) {
    int n = CHUNK;
    while (n > 4 && n * width > TILE_DOUBLES) n /= 2;
    return n;
}

/* Room for a tile of float32 rows as float64, each up to whole lanes; its last rows come in fours. */
INLINE int64_t copy_size(const struct rows *X) {
    int64_t width = (X->d + LANES - 1) / LANES * LANES;
    return X->indices || !X->is_single ? 0 : tile_rows(width) * width;
}

/* The pace that asks for the next tile while this one of n rows is computed: a third of it during the link, as far
   as one line a round goes, and the rest in rounds of 4 rows by 8 columns and of 2 by 16. */
INLINE void pace(const struct rows *X, enum kind kind, const char *next, int n, int64_t *link, struct ahead *ahead) {
    int64_t bytes = n * X->stride, rounds = link_rounds(kind, n) + 1, share = bytes / (3 * rounds);
    *link = share < 64 ? share : 64;
    int64_t products = (n + 3) / 4 * (X->d / LANES + 1) * 2;
    *ahead = (struct ahead){next, (bytes - *link * rounds) / products};
}

/* z, link terms and g += X' r of a chunk; copy has room for a tile of float32 rows as float64. */
static void dense_chunk(const struct rows *X, const struct model *m, int64_t row, int n, struct chunk *c,
                        double *copy, double *g, struct lanes *sums) {
    int64_t width = (X->d + LANES - 1) / LANES * LANES, in_link;
    int step = tile_rows(width);
    for (int at = 0; at < n; at += step) {
        int count = n - at < step ? n - at : step;
        const char *x = X->x + (row + at) * X->stride;
        struct chunk tile;
        struct ahead ahead;
        pace(X, m->loss.kind, x + count * X->stride, count, &in_link, &ahead);
        if (X->is_single)
            dots(X, x, count, m->coef, tile.z, copy, &ahead, 1);
        else
            dots(X, x, count, m->coef, tile.z, NULL, &ahead, 0);
        gather_rows(m, row + at, count, &tile);
        tile.ahead = (struct ahead){ahead.next, in_link};
        link(&m->loss, &tile, (count + LANES - 1) & ~(LANES - 1), sums);
        ahead.next = tile.ahead.next;
        if (X->is_single)
            add_rows(copy, width, count, width, tile.r, g, &ahead, 1);
        else
            add_rows((const double *)x, X->stride / 8, count, X->d, tile.r, g, &ahead, 0);
        memcpy(c->h + at, tile.h, (size_t)count * sizeof(double));
    }
}
