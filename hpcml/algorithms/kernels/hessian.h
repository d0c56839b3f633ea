/* The Hessian of some columns of X, dense or CSR: all that a pass keeps for it. */

struct hessian {
    const struct columns *C;
    int is_sparse;
    struct gram G;
    struct triangle T;
    struct rows tile; /* the columns of a chunk of dense rows, where they are not all */
};

/* Entries of the longest row, and one to spare. */
static int64_t longest(const struct rows *X) {
    int64_t most = 0;
    for (int64_t row = 0; row < X->n; row++) {
        int64_t n = pointer(X, row + 1) - pointer(X, row);
        most = n > most ? n : most;
    }
    return most + 1;
}

/* Doubles of working memory. */
static int64_t hessian_size(const struct rows *X, const struct columns *C) {
    if (!X->indices) return gram_size(C->n) + (C->n < X->d ? CHUNK * C->n : 0);
    return (C->n + 1) * (C->n + 1) + 2 * longest(X) + X->d;
}

static struct hessian make_hessian(const struct rows *X, const struct columns *C, double *work) {
    struct hessian H = {.C = C, .is_sparse = X->indices != NULL};
    int is_all = C->n == X->d;
    if (!H.is_sparse) {
        int64_t size = X->is_single ? 4 : 8;
        const char *tile = is_all ? NULL : (const char *)(work + gram_size(C->n));
        H.G = make_gram(C->n, work);
        H.tile = (struct rows){.x = tile, .stride = C->n * size, .is_single = X->is_single, .n = CHUNK, .d = C->n};
        return H;
    }
    double *x = work + (C->n + 1) * (C->n + 1);
    int32_t *at = (int32_t *)(x + longest(X)), *place = at + longest(X);
    for (int64_t j = 0; j < X->d; j++) place[j] = -1;
    for (int64_t i = 0; i < C->n; i++) place[C->at[i]] = (int32_t)i;
    H.T = (struct triangle){C->n, is_all ? NULL : place, at, x, work};
    return H;
}

static void clear_hessian(const struct hessian *H) {
    int64_t n = H->C->n + 1;
    if (H->is_sparse)
        memset(H->T.H, 0, (size_t)(n * n) * sizeof(double));
    else
        clear_gram(&H->G);
}

INLINE void pick_as(const struct rows *X, int64_t row, int n, const struct hessian *H, int is_single) {
    const int64_t *at = H->C->at, many = H->C->n;
    for (int i = 0; i < n; i++) {
        const char *x = X->x + (row + i) * X->stride, *to = H->tile.x + i * H->tile.stride;
        if (is_single)
            for (int64_t j = 0; j < many; j++) ((float *)to)[j] = ((const float *)x)[at[j]];
        else
            for (int64_t j = 0; j < many; j++) ((double *)to)[j] = ((const double *)x)[at[j]];
    }
}

/* Of a chunk of rows, while it lies in the cache. */
static void add_hessian(const struct hessian *H, const struct rows *X, int64_t row, int n, const double *h) {
    if (H->is_sparse) {
        sparse_gram(X, row, n, h, &H->T);
    } else if (!H->tile.x) {
        add_gram(X, row, n, h, &H->G);
    } else {
        if (X->is_single)
            pick_as(X, row, n, H, 1);
        else
            pick_as(X, row, n, H, 0);
        add_gram(&H->tile, 0, n, h, &H->G);
    }
}

/* [sum h, C' h, upper triangle of C' diag(h) C] */
static void write_hessian(const struct hessian *H, double *out) {
    int64_t d = H->C->n;
#define AT(i, j) (H->is_sparse ? H->T.H + (i) * (d + 1) + (j) : gram_at(&H->G, i, j))
    *out++ = *AT(d, d);
    for (int64_t i = 0; i < d; i++) *out++ = *AT(i, d);
    for (int64_t i = 0; i < d; i++)
        for (int64_t j = i, stop; j < d; j = stop) {
            stop = H->is_sparse || j / NR * NR + NR > d ? d : j / NR * NR + NR;
            memcpy(out, AT(i, j), (size_t)(stop - j) * sizeof(double));
            out += stop - j;
        }
#undef AT
}
