/* The entries of k-means passes; included by module.c alone. */

/* (n,) numbers from 0 to most - 1, or -1 where they may be. */
static int take_numbers(struct held *held, PyObject *object, int64_t n, int64_t least, int64_t most, const char *what,
                        const int32_t **to) {
    if (!take_vector(held, object, "i", n, what, (const void **)to) || !*to) return 0;
    for (int64_t i = 0; i < n; i++)
        if ((*to)[i] < least || (*to)[i] >= most) return refuse(what);
    return 1;
}

/* (at, middle, panels, first, label, place, scale, is_tame, group_panels) */
static int take_centers(struct held *held, PyObject *tuple, int64_t d, struct centers *C) {
    PyObject *at, *arrays[5];
    long long group;
    if (!PyArg_ParseTuple(tuple, "OOOOOOdpL", &at, &arrays[0], &arrays[1], &arrays[2], &arrays[3], &arrays[4],
                          &C->scale, &C->is_tame, &group))
        return 0;
    Py_buffer *view = take(held, at, "d", 2, 0), *panels = view ? take(held, arrays[1], "f", 1, 0) : NULL;
    if (!panels) return 0;
    C->at = view->buf;
    C->k = view->shape[0];
    C->width = (d + 7) / 8 * 8;
    C->panels = panels->buf;
    C->n_panels = panels->shape[0] / (16 * (d + 2));
    C->group_panels = group;
    if (C->k < 1 || view->len != C->k * C->width * 8 || view->shape[1] != C->width || group < 1 || C->n_panels < 1)
        return refuse("centers");
    C->n_groups = (C->n_panels + group - 1) / group;
    if (panels->shape[0] != C->n_panels * 16 * (d + 2) || C->n_groups > 64) return refuse("panels");
    return take_vector(held, arrays[0], "d", C->width, "middle", (const void **)&C->middle) &&
           take_vector(held, arrays[2], "f", 16 * C->n_panels, "first", (const void **)&C->first) &&
           take_numbers(held, arrays[3], 16 * C->n_panels, -1, C->k, "label", &C->label) &&
           take_numbers(held, arrays[4], C->k, 0, 16 * C->n_panels, "place", &C->place) &&
           ((C->middle && C->first) || refuse("middle or first"));
}

/* (labels, distances, lower, moved) */
static int take_found(struct held *held, PyObject *tuple, int64_t n, const struct centers *C, struct found *found) {
    PyObject *labels, *distances, *lower, *moved;
    if (!PyArg_ParseTuple(tuple, "OOOO", &labels, &distances, &lower, &moved)) return 0;
    if (!take_vector(held, labels, "i", n, "labels", (const void **)&found->labels) ||
        !take_vector(held, distances, "d", n, "distances", (const void **)&found->distances) ||
        !take_vector(held, lower, "f", n * C->n_groups, "lower", (const void **)&found->lower) ||
        !take_vector(held, moved, "f", C->n_groups, "moved", (const void **)&found->moved))
        return 0;
    if (!found->moved) return 1;
    if (!found->labels || !found->lower) return refuse("labels or lower");
    for (int64_t i = 0; i < n; i++)
        if (found->labels[i] < 0 || found->labels[i] >= C->k) return refuse("labels");
    return 1;
}

static int take_out(struct held *held, PyObject *object, const struct rows *X, int64_t k, const struct borders *b,
                    double **to) {
    return take_matrix(held, object, b->n_shards, k * (X->d + 1) + 1, 1, "out", to);
}

static PyObject *nearest(PyObject *self, PyObject *args) {
    (void)self;
    const char *name;
    PyObject *rows, *shards, *weight, *centers, *tuple, *out;
    struct held held = {.n = 0};
    struct rows X;
    struct borders b;
    struct centers C;
    struct found found;
    const double *s;
    double *to;
    if (!PyArg_ParseTuple(args, "sOOOOOO", &name, &rows, &shards, &weight, &centers, &tuple, &out)) return NULL;
    const struct kernels *k = named(name);
    int good = k && take_rows(&held, rows, &X) && take_borders(&held, shards, shards, X.n, &b) &&
               take_vector(&held, weight, "d", X.n, "weight", (const void **)&s) &&
               take_centers(&held, centers, X.d, &C) && take_found(&held, tuple, X.n, &C, &found) &&
               take_out(&held, out, &X, C.k, &b, &to);
    if (good) {
        Py_BEGIN_ALLOW_THREADS
        good = !k->nearest(&X, &b, s, &C, &found, to);
        Py_END_ALLOW_THREADS
        if (!good) PyErr_NoMemory();
    }
    return done(&held, good);
}

static PyObject *cluster_sums(PyObject *self, PyObject *args) {
    (void)self;
    const char *name;
    PyObject *rows, *shards, *weight, *numbers, *squared, *out;
    struct held held = {.n = 0};
    struct rows X;
    struct borders b;
    long long n_clusters;
    const int32_t *labels;
    const double *s, *distances;
    double *to;
    if (!PyArg_ParseTuple(args, "sOOOOOLO", &name, &rows, &shards, &weight, &numbers, &squared, &n_clusters, &out))
        return NULL;
    const struct kernels *k = named(name);
    int good = k && take_rows(&held, rows, &X) && take_borders(&held, shards, shards, X.n, &b) &&
               take_vector(&held, weight, "d", X.n, "weight", (const void **)&s) &&
               take_numbers(&held, numbers, X.n, 0, n_clusters, "labels", &labels) &&
               take_vector(&held, squared, "d", X.n, "distances", (const void **)&distances) &&
               take_out(&held, out, &X, n_clusters, &b, &to) && ((distances && to) || refuse("distances or out"));
    if (good) {
        Py_BEGIN_ALLOW_THREADS
        k->cluster_sums(&X, &b, s, n_clusters, labels, distances, to);
        Py_END_ALLOW_THREADS
    }
    return done(&held, good);
}
