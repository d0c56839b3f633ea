/* Coordinate descent on a quadratic with l1 strengths and bounds: one sweep over the weights v in order. */

/* The minimum over one weight, as the formula of sweeps.py. */
INLINE double best_weight(double old, double slope, double curvature, double l1, double lower, double upper) {
    if (curvature <= 0.0) return l1 > 0.0 ? 0.0 : old; /* a column without spread: only the penalty speaks */
    double far = old - slope / curvature, rest = fabs(far) - l1 / curvature;
    double shrunk = copysign(rest < 0.0 ? 0.0 : rest, far);
    shrunk = shrunk < lower ? lower : shrunk;
    return shrunk > upper ? upper : shrunk;
}

/* slope is that of the quadratic at v, H (n, n) its Hessian. */
static void sweep(const struct sweep *s, double *v, double *slope) {
    int64_t n = s->n;
    for (int64_t j = 0; j < n; j++) {
        const double *row = s->H + j * n;
        double new = best_weight(v[j], slope[j], row[j], s->l1[j], s->lower[j], s->upper[j]);
        if (new == v[j]) continue;
        double move = new - v[j];
        v[j] = new;
        for (int64_t i = 0; i < n; i++) slope[i] += move * row[i];
    }
}
