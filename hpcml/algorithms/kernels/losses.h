/* Value, slope and curvature of a loss in the raw prediction z, W rows at a time.

   A class is told by y == a; what the value has in y alone is left out:
     squared         (z - y)^2 / 2
     logistic        log(1 + exp(z)) - t z, t = 1 where y == a, else 0
     Poisson         exp(z) - y z
     gamma           z + y exp(-z)
     Tweedie         exp((2 - a) z) / (2 - a) - y exp((1 - a) z) / (1 - a), a not 1 or 2
     Huber           r^2 / 2 up to |r| = a, then a (|r| - a / 2), r = z - y
     squared hinge   max(0, 1 - t z)^2, t = 1 where y == a, else -1 */

struct terms {
    vec value, slope, curvature;
};

INLINE struct terms squared(vec z, vec y) {
    vec r = z - y;
    return (struct terms){r * r * 0.5, r, vset(1.0)};
}

/* All from u = exp(-|z|) in [0, 1]: log(1 + u) = 2 atanh(u / (2 + u)), one division for both quotients. */
INLINE struct terms logistic(vec z, vec y, vec positive) {
    ivec sign = vset_bits(INT64_MIN), is_positive = y == positive;
    vec margin = (vec)((ivec)z ^ (sign & ~is_positive)), against = (vec)((ivec)margin ^ sign);
    vec u = vexp_as((vec)((ivec)z | sign), 1), one = u + 1.0, two = u + 2.0;
    vec inverse = 1.0 / (one * two), p = two * inverse, s = u * one * inverse, t = s * s;
    vec half = vfma(s * t, atanh_rest(t), s), small = u * p;
    vec wrong = vpick(margin > vset(0.0), small, p);
    vec loss = (vec)((ivec)against & (margin < vset(0.0)));
    return (struct terms){vfma(half, vset(2.0), loss), (vec)((ivec)wrong ^ (sign & is_positive)), small * p};
}

/* Held at exp(700): a row of weight zero then adds zero, which infinity times zero would not be. */
INLINE vec held_exp(vec x) { return vexp(vpick(x > vset(700.0), vset(700.0), x)); }

INLINE struct terms poisson(vec z, vec y) {
    vec e = held_exp(z);
    return (struct terms){vfma(-y, z, e), e - y, e};
}

INLINE struct terms gamma_(vec z, vec y) {
    vec e = y * held_exp(-z);
    return (struct terms){z + e, 1.0 - e, e};
}

INLINE struct terms tweedie(vec z, vec y, double power) {
    double one = 1.0 - power, two = 2.0 - power;
    vec large = held_exp(z * two), small = y * held_exp(z * one);
    return (struct terms){large * (1.0 / two) - small * (1.0 / one), large - small, large * two - small * one};
}

INLINE struct terms huber(vec z, vec y, double delta) {
    vec r = z - y, far = vabs(r), sign = vpick(r < vset(0.0), vset(-delta), vset(delta));
    ivec inside = far <= vset(delta);
    vec value = vpick(inside, r * r * 0.5, (far - 0.5 * delta) * delta);
    return (struct terms){value, vpick(inside, r, sign), vpick(inside, vset(1.0), vset(0.0))};
}

INLINE struct terms squared_hinge(vec z, vec y, vec positive) {
    vec t = vpick(y == positive, vset(1.0), vset(-1.0)), gap = 1.0 - t * z;
    ivec passed = gap <= vset(0.0);
    gap = vpick(passed, vset(0.0), gap);
    return (struct terms){gap * gap, t * gap * -2.0, vpick(passed, vset(0.0), vset(2.0))};
}

INLINE struct terms terms_of(enum kind kind, const struct loss *loss, vec z, vec y) {
    switch (kind) {
    case LOGISTIC: return logistic(z, y, vset(loss->a));
    case POISSON: return poisson(z, y);
    case GAMMA: return gamma_(z, y);
    case TWEEDIE: return tweedie(z, y, loss->a);
    case HUBER: return huber(z, y, loss->a);
    case SQUARED_HINGE: return squared_hinge(z, y, vset(loss->a));
    default: return squared(z, y);
    }
}

/* The link terms of a chunk, and its sums in 8 lanes by row. r = weight slope, h = weight curvature. */
struct chunk {
    double z[CHUNK], y[CHUNK], weight[CHUNK], r[CHUNK], h[CHUNK];
};

struct lanes {
    vec value[P], slope[P];
};

INLINE void link_as(enum kind kind, const struct loss *loss, struct chunk *c, int n, struct lanes *sums) {
    struct lanes sum = *sums;
    for (int i = 0; i < n; i += LANES) {
        UNROLL for (int p = 0; p < P; p++) {
            int at = i + p * W;
            vec s = vload(c->weight + at);
            struct terms t = terms_of(kind, loss, vload(c->z + at), vload(c->y + at));
            vec r = s * t.slope;
            sum.value[p] = vfma(s, t.value, sum.value[p]);
            sum.slope[p] += r;
            vstore(c->r + at, r);
            vstore(c->h + at, s * t.curvature);
        }
    }
    *sums = sum;
}

#define EACH_KIND(CASE) \
    CASE(SQUARED) CASE(LOGISTIC) CASE(POISSON) CASE(GAMMA) CASE(TWEEDIE) CASE(HUBER) CASE(SQUARED_HINGE)

static void link(const struct loss *loss, struct chunk *c, int n, struct lanes *sums) {
#define CASE(kind) \
    case kind: link_as(kind, loss, c, n, sums); break;
    switch (loss->kind) {
        EACH_KIND(CASE)
        default: break;
    }
#undef CASE
}

/* Labels and weights of n rows, with zeros up to a whole number of lanes; intercept and offset go to z. */
static void gather_rows(const struct model *m, int64_t row, int n, struct chunk *c) {
    size_t bytes = (size_t)n * sizeof(double);
    int padded = (n + LANES - 1) & ~(LANES - 1);
    if (m->y)
        memcpy(c->y, m->y + row, bytes);
    else
        memset(c->y, 0, bytes);
    if (m->weight)
        memcpy(c->weight, m->weight + row, bytes);
    else
        for (int i = 0; i < n; i++) c->weight[i] = 1.0;
    for (int i = 0; i < n; i++) c->z[i] += m->intercept;
    if (m->offset)
        for (int i = 0; i < n; i++) c->z[i] += m->offset[row + i];
    for (int i = n; i < padded; i++) c->z[i] = c->y[i] = c->weight[i] = 0.0;
}

static void terms(const struct loss *loss, int64_t n, const double *z, const double *y, double *value,
                  double *slope, double *curvature) {
    for (int64_t i = 0; i < n; i += W) {
        double in[2][W] = {{0.0}}, out[3][W];
        size_t bytes = (size_t)(n - i < W ? n - i : W) * sizeof(double);
        memcpy(in[0], z + i, bytes);
        memcpy(in[1], y + i, bytes);
        struct terms t = terms_of(loss->kind, loss, vload(in[0]), vload(in[1]));
        vstore(out[0], t.value);
        vstore(out[1], t.slope);
        vstore(out[2], t.curvature);
        memcpy(value + i, out[0], bytes);
        memcpy(slope + i, out[1], bytes);
        memcpy(curvature + i, out[2], bytes);
    }
}
