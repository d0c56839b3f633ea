/* Products with a few dense rows: z = X w by rows, g += X' r by panels of columns. */

enum { PANEL = 16, V = PANEL / W }; /* columns whose sums stay in registers, and their vectors */

enum { TILE_BYTES = 16384 }; /* of rows that are used twice while they lie in the first cache */

INLINE vec row_load(const char *row, int64_t j, int is_single) {
    return is_single ? vload_single((const float *)row + j) : vload((const double *)row + j);
}

INLINE vec row_part(const char *row, int64_t j, part m, int is_single) {
    return is_single ? vload_single_part((const float *)row + j, m) : vload_part((const double *)row + j, m);
}

/* Four rows, which may be the same: whole lanes of columns, then part of one. */
struct four {
    const char *row[4];
    int64_t whole, width;
    part m[P];
};

/* The sums of 8 columns of each row; the last ones are masked. */
INLINE void dot_lanes(const struct four *x, int64_t j, const double *w, vec sum[4][P], int is_last,
                      int is_single) {
    UNROLL for (int p = 0; p < P; p++) {
        int64_t at = j + p * W;
        vec wp = vload(w + at);
        UNROLL for (int r = 0; r < 4; r++) {
            const char *row = x->row[r];
            vec v = is_last ? row_part(row, at, x->m[p], is_single) : row_load(row, at, is_single);
            sum[r][p] = vfma(v, wp, sum[r][p]);
        }
    }
}

/* z of 4 rows, in 8 lanes by column. */
INLINE void dot4(const struct four *x, const double *w, double *z, struct ahead *ahead, int is_single) {
    vec sum[4][P];
    UNROLL for (int r = 0; r < 4; r++) UNROLL for (int p = 0; p < P; p++) sum[r][p] = vset(0.0);
    for (int64_t j = 0; j < x->whole; j += LANES) {
        fetch(ahead, is_single ? 1 : 2);
        dot_lanes(x, j, w, sum, 0, is_single);
    }
    if (x->width > x->whole) {
        fetch(ahead, is_single ? 1 : 2);
        dot_lanes(x, x->whole, w, sum, 1, is_single);
    }
    sum_lanes4(sum, z);
}

INLINE void dots_as(const struct rows *X, const char *x, int n, int64_t whole, const double *w, double *z,
                    struct ahead *ahead, int is_single) {
    struct four four = {.whole = whole, .width = whole + (X->d > whole ? LANES : 0)};
    UNROLL for (int p = 0; p < P; p++) {
        int64_t rest = X->d - whole - p * W;
        four.m[p] = part_of(rest < 0 ? 0 : rest < W ? rest : W);
    }
    int i = 0;
    for (; i + 4 <= n; i += 4) {
        UNROLL for (int r = 0; r < 4; r++) four.row[r] = x + (i + r) * X->stride;
        dot4(&four, w, z + i, ahead, is_single);
    }
    if (i < n) {
        double last[4];
        UNROLL for (int r = 0; r < 4; r++) four.row[r] = x + (i + r < n ? i + r : i) * X->stride;
        dot4(&four, w, last, ahead, is_single);
        for (int r = 0; i + r < n; r++) z[i + r] = last[r];
    }
}

/* Few columns are a case of their own: no loop over them, and w stays in registers. */
INLINE void dots(const struct rows *X, const char *x, int n, const double *w, double *z,
                 struct ahead *ahead, int is_single) {
    if (X->d / LANES == 1)
        dots_as(X, x, n, LANES, w, z, ahead, is_single);
    else
        dots_as(X, x, n, X->d / LANES * LANES, w, z, ahead, is_single);
}

/* A panel of rows: some vectors of columns, the last one masked where it is a part. */
INLINE vec panel_load(const char *x, int v, int vectors, int is_part, part m, int is_single) {
    return is_part && v == vectors - 1 ? row_part(x, v * W, m, is_single) : row_load(x, v * W, is_single);
}

/* g += X' r over n rows of a panel. Even and odd rows are summed apart: half the wait for the adder. */
INLINE void panel(const char *x, ptrdiff_t stride, int n, const double *r, double *g, int vectors,
                  int is_part, part m, struct ahead *ahead, int is_single) {
    vec even[V], odd[V];
    UNROLL for (int v = 0; v < vectors; v++) {
        even[v] = vload(g + v * W);
        odd[v] = vset(0.0);
    }
    int i = 0;
    for (; i + 2 <= n; i += 2, x += 2 * stride) {
        vec r0 = vset(r[i]), r1 = vset(r[i + 1]);
        fetch(ahead, is_single ? 1 : 2);
        UNROLL for (int v = 0; v < vectors; v++) {
            even[v] = vfma(panel_load(x, v, vectors, is_part, m, is_single), r0, even[v]);
            odd[v] = vfma(panel_load(x + stride, v, vectors, is_part, m, is_single), r1, odd[v]);
        }
    }
    if (i < n) {
        vec r0 = vset(r[i]);
        UNROLL for (int v = 0; v < vectors; v++)
            even[v] = vfma(panel_load(x, v, vectors, is_part, m, is_single), r0, even[v]);
    }
    UNROLL for (int v = 0; v < vectors; v++) vstore(g + v * W, even[v] + odd[v]);
}

INLINE void last_panel(const char *x, ptrdiff_t stride, int n, const double *r, double *g, int64_t columns,
                       struct ahead *ahead, int is_single) {
    int64_t vectors = (columns + W - 1) / W;
    part m = part_of(columns - (vectors - 1) * W);
#define CASE(n_vectors) \
    case n_vectors: panel(x, stride, n, r, g, n_vectors, 1, m, ahead, is_single); break;
    switch (vectors) {
        CASE(1)
        CASE(2)
#if W <= 4
        CASE(3)
        CASE(4)
#endif
#if W <= 2
        CASE(5)
        CASE(6)
        CASE(7)
        CASE(8)
#endif
    }
#undef CASE
}

INLINE void add_rows(const struct rows *X, const char *x, int n, const double *r, double *g,
                     struct ahead *ahead, int is_single) {
    int64_t j = 0, size = is_single ? 4 : 8;
    for (; j + PANEL <= X->d; j += PANEL)
        panel(x + j * size, X->stride, n, r, g + j, V, 0, part_of(0), ahead, is_single);
    if (j < X->d) last_panel(x + j * size, X->stride, n, r, g + j, X->d - j, ahead, is_single);
}

/* Rows of a tile: a power of two, at least 4. */
INLINE int tile_rows(int64_t row_bytes) {
    int n = CHUNK;
    while (n > 4 && n * row_bytes > TILE_BYTES) n /= 2;
    return n;
}

/* The pace that asks for the next tile while this one of n rows is computed: a third of it during the link,
   as far as one line a round goes, and the rest in rounds of 4 rows by 8 columns and of 2 by 16. */
INLINE void pace(const struct rows *X, enum kind kind, const char *next, int n, int64_t *link,
                 struct ahead *ahead) {
    int64_t bytes = n * X->stride, rounds = link_rounds(kind, n) + 1, share = bytes / (3 * rounds);
    *link = share < 64 ? share : 64;
    int64_t products = (n + 3) / 4 * (X->d / LANES + 1) * 2;
    *ahead = (struct ahead){next, (bytes - *link * rounds) / products};
}

/* z, link terms and g += X' r of a chunk. */
INLINE void dense_chunk_as(const struct rows *X, const struct model *m, int64_t row, int n, struct chunk *c,
                           double *g, struct lanes *sums, int is_single) {
    int step = tile_rows(X->d * (is_single ? 4 : 8));
    for (int at = 0; at < n; at += step) {
        int count = n - at < step ? n - at : step;
        const char *x = X->x + (row + at) * X->stride;
        struct chunk tile;
        struct ahead ahead;
        int64_t in_link;
        pace(X, m->loss.kind, x + count * X->stride, count, &in_link, &ahead);
        dots(X, x, count, m->coef, tile.z, &ahead, is_single);
        gather_rows(m, row + at, count, &tile);
        tile.ahead = (struct ahead){ahead.next, in_link};
        link(&m->loss, &tile, (count + LANES - 1) & ~(LANES - 1), sums);
        ahead.next = tile.ahead.next;
        add_rows(X, x, count, tile.r, g, &ahead, is_single);
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
