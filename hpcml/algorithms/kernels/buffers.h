/* The buffers of one call, taken from Python's objects and checked; included by module.c alone. */

static const char *const KIND_NAMES[N_KINDS] = {"squared", "logistic", "poisson",      "gamma",
                                                "tweedie", "huber",    "squared_hinge"};

/* The buffers of one call. */
struct held {
    Py_buffer views[24];
    int n;
};

static void release(struct held *held) {
    while (held->n) PyBuffer_Release(&held->views[--held->n]);
}

#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
#define NATIVE "<"
#else
#define NATIVE ">"
#endif

/* A buffer whose elements have one of the given types (f, d, i: int32, l: int64), or NULL with an error. */
static Py_buffer *take(struct held *held, PyObject *object, const char *types, int ndim, int is_written) {
    Py_buffer *view = &held->views[held->n];
    if (PyObject_GetBuffer(object, view, PyBUF_FORMAT | PyBUF_STRIDES | (is_written ? PyBUF_WRITABLE : 0)))
        return NULL;
    held->n++;
    const char *format = view->format ? view->format : "";
    if (strchr("@=" NATIVE, *format) && *format) format++; /* this machine's own order, said aloud */
    char type = *format;
    if ((type == 'i' || type == 'l' || type == 'q') && format[1] == 0) type = view->itemsize == 8 ? 'l' : 'i';
    int is_plain = type && format[1] == 0 && strchr(types, type) && view->ndim == ndim;
    if (is_plain && view->shape[ndim - 1] > 1 && view->strides[ndim - 1] != view->itemsize) is_plain = 0;
    if (!is_plain) {
        PyErr_Format(PyExc_TypeError, "an array of %d dimension(s) and type %s is wanted", ndim, types);
        return NULL;
    }
    return view;
}

static int refuse(const char *what) {
    PyErr_Format(PyExc_ValueError, "%s has the wrong length", what);
    return 0;
}

/* A vector of n elements, NULL in `to` for None. */
static int take_vector(struct held *held, PyObject *object, const char *type, int64_t n, const char *what,
                       const void **to) {
    *to = NULL;
    if (object == Py_None) return 1;
    Py_buffer *view = take(held, object, type, 1, 0);
    if (!view) return 0;
    *to = view->buf;
    return view->shape[0] == n ? 1 : refuse(what);
}

/* (X,) or (data, indices, indptr, n_features) */
static int take_rows(struct held *held, PyObject *tuple, struct rows *X) {
    PyObject *x, *indices = NULL, *indptr = NULL;
    long long d = 0;
    if (!PyArg_ParseTuple(tuple, "O|OOL", &x, &indices, &indptr, &d)) return 0;
    Py_buffer *view = take(held, x, "fd", indptr ? 1 : 2, 0);
    if (!view) return 0;
    *X = (struct rows){.x = view->buf, .is_single = view->itemsize == 4};
    if (!indptr) {
        X->n = view->shape[0];
        X->d = view->shape[1];
        X->stride = view->strides[0];
        return 1;
    }
    Py_buffer *columns = take(held, indices, "i", 1, 0), *starts = take(held, indptr, "il", 1, 0);
    if (!columns || !starts) return 0;
    X->indices = columns->buf;
    X->indptr = starts->buf;
    X->is_wide = starts->itemsize == 8;
    X->n = starts->shape[0] - 1;
    X->d = d;
    if (X->n < 0) return refuse("indptr");
    int64_t stored = X->is_wide ? ((int64_t *)starts->buf)[X->n] : ((int32_t *)starts->buf)[X->n];
    return stored <= view->shape[0] && stored <= columns->shape[0] ? 1 : refuse("data");
}

static int take_borders(struct held *held, PyObject *shards, PyObject *pieces, int64_t n, struct borders *b) {
    Py_buffer *s = take(held, shards, "l", 1, 0), *p = take(held, pieces, "l", 1, 0);
    if (!s || !p) return 0;
    *b = (struct borders){s->buf, p->buf, s->shape[0] - 1, p->shape[0] - 1};
    if (b->n_shards < 0 || b->n_pieces < 0) return refuse("borders");
    int is_whole = b->shards[0] >= 0 && b->pieces[0] >= 0;
    for (int64_t i = 0; i < b->n_shards; i++) is_whole = is_whole && b->shards[i] <= b->shards[i + 1];
    for (int64_t i = 0; i < b->n_pieces; i++) is_whole = is_whole && b->pieces[i] <= b->pieces[i + 1];
    return is_whole && b->shards[b->n_shards] <= n && b->pieces[b->n_pieces] <= n ? 1 : refuse("borders");
}

static int take_loss(PyObject *tuple, struct loss *loss) {
    const char *name;
    if (!PyArg_ParseTuple(tuple, "sdd", &name, &loss->a, &loss->b)) return 0;
    for (int kind = 0; kind < N_KINDS; kind++)
        if (strcmp(KIND_NAMES[kind], name) == 0) {
            loss->kind = (enum kind)kind;
            return 1;
        }
    PyErr_Format(PyExc_ValueError, "no loss '%s'", name);
    return 0;
}

/* A copy of coef with zeros up to a multiple of 16, which vectors may read. */
static double *padded(struct held *held, PyObject *coef, int64_t d) {
    const void *from;
    if (!take_vector(held, coef, "d", d, "coef", &from)) return NULL;
    double *w = calloc((size_t)d + 16, sizeof(double));
    if (w && d) memcpy(w, from, (size_t)d * sizeof(double));
    if (!w) PyErr_NoMemory();
    return w;
}
