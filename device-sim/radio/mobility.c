#include "device-sim/radio/mobility.h"

#include "device-sim/link/lines.h"
#include "trainer/tensor/rng.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { FIRST_POINTS = 256 };
static const double step_s = 1;                       /* of Gauss-Markov */
static const double farthest = 1e9, soonest_s = 1e-3; /* of recorded points: so that speeds are finite */

const char *sl_mobility_name(enum sl_mobility_kind k)
{
    static const char *const names[SL_MOBILITY_COUNT] = {"static", "waypoint", "gauss_markov", "path"};
    return k < SL_MOBILITY_COUNT ? names[k] : "unknown";
}

/* ---- recorded paths ---- */

void sl_path_free(struct sl_path *p)
{
    free(p->t_s);
    free(p->x_m);
    free(p->y_m);
    *p = (struct sl_path){0};
}

static int grow(struct sl_path *p, size_t *cap)
{
    if (p->n < *cap)
        return 0;
    size_t more = *cap ? 2 * *cap : FIRST_POINTS;
    double **const arrays[] = {&p->t_s, &p->x_m, &p->y_m};
    for (int i = 0; i < 3; i++) {
        double *a = realloc(*arrays[i], more * sizeof *a);
        if (!a)
            return -ENOMEM;
        *arrays[i] = a;
    }
    *cap = more;
    return 0;
}

static bool finite_number(char **at, double *v)
{
    char *end;

    if (**at == 0 || !strchr("+-.0123456789", **at))
        return false;
    *v = strtod(*at, &end);
    bool ok = end != *at && fabs(*v) <= farthest;
    *at = end;
    return ok;
}

static int path_line(struct sl_lines *l, char *line, struct sl_path *p, size_t *cap)
{
    double v[3];

    for (int i = 0; i < 3; i++)
        if (!finite_number(&line, &v[i]) || *line++ != (i < 2 ? ',' : 0))
            return sl_lines_fail(l, "not three numbers t_s,x_m,y_m");
    if (p->n == 0 && v[0] != 0)
        return sl_lines_fail(l, "a path begins at 0 s");
    if (p->n && v[0] <= p->t_s[p->n - 1])
        return sl_lines_fail(l, "no later than the line before; sort the path by time");
    if (p->n && v[0] - p->t_s[p->n - 1] < soonest_s)
        return sl_lines_fail(l, "less than 1 ms after the line before");
    if (grow(p, cap)) {
        snprintf(l->err, l->err_cap, "%s: out of memory", l->name);
        return -ENOMEM;
    }
    p->t_s[p->n] = v[0];
    p->x_m[p->n] = v[1];
    p->y_m[p->n++] = v[2];
    return 0;
}

int sl_path_parse(
    const char *text, size_t len, const char *name, struct sl_path *out, char *err, size_t err_cap)
{
    struct sl_lines l = {name, text, text + len, 0, err, err_cap};
    struct sl_path p = {0};
    char line[SL_LINES_LINE_MAX];
    size_t cap = 0;
    int more = sl_lines_next(&l, line), rc = more < 0 ? more : 0;

    if (more > 0 && strcmp(line, "t_s,x_m,y_m"))
        rc = sl_lines_fail(&l, "the header must be t_s,x_m,y_m");
    while (!rc && (more = sl_lines_next(&l, line)) != 0)
        rc = more < 0 ? more : path_line(&l, line, &p, &cap);
    if (!rc && p.n < 2) {
        l.number = l.number ? l.number : 1;
        rc = sl_lines_fail(&l, "a path needs at least two points");
    }
    if (rc) {
        sl_path_free(&p);
        return rc;
    }
    *out = p;
    return 0;
}

int sl_path_load(const char *file, struct sl_path *p, char *err, size_t err_cap)
{
    char *text;
    size_t len;
    int rc = sl_lines_of_file(file, &text, &len, err, err_cap);

    if (rc)
        return rc;
    rc = sl_path_parse(text, len, file, p, err, err_cap);
    free(text);
    return rc;
}

/* There and back again, for ever. */
static double path_at(const struct sl_path *p, double t_s, double *x, double *y)
{
    double length = p->t_s[p->n - 1], t = fmod(t_s, 2 * length);
    size_t lo = 0, hi = p->n - 1;

    if (t > length)
        t = 2 * length - t;
    while (lo + 1 < hi) {
        size_t mid = lo + (hi - lo) / 2;
        if (p->t_s[mid] <= t)
            lo = mid;
        else
            hi = mid;
    }
    double span = p->t_s[lo + 1] - p->t_s[lo], part = (t - p->t_s[lo]) / span;
    double dx = p->x_m[lo + 1] - p->x_m[lo], dy = p->y_m[lo + 1] - p->y_m[lo];
    *x = p->x_m[lo] + part * dx;
    *y = p->y_m[lo] + part * dy;
    return sqrt(dx * dx + dy * dy) / span;
}

/* ---- drawn ones ---- */

static double normal(uint64_t key, uint64_t i)
{
    return sqrt(-2 * log(sl_rng_open(key, 2 * i))) * cos(2 * M_PI * sl_rng_open(key, 2 * i + 1));
}

static double draw(const struct sl_mobility *m, uint64_t k)
{
    return sl_rng_open(m->key, 4 * m->i + k);
}

void sl_mobility_init(
    struct sl_mobility *m, const struct sl_mobility_config *c, uint64_t key, const double at_m[2])
{
    *m = (struct sl_mobility){.cfg = c, .key = key};
    m->x1 = at_m ? at_m[0] : draw(m, 0) * c->width_m;
    m->y1 = at_m ? at_m[1] : draw(m, 1) * c->height_m;
    m->x0 = m->x1;
    m->y0 = m->y1;
    m->mean_course = m->course = 2 * M_PI * draw(m, 2);
    m->speed = 0.5 * (c->speed_min_mps + c->speed_max_mps);
    m->i = 1;
    if (c->kind == SL_MOBILITY_PATH)
        m->from_s = -draw(m, 3) * c->spread_s; /* later in the path at time 0 */
}

/* A leg: to the next point at one speed; then the pause there. */
static void next_leg(struct sl_mobility *m)
{
    const struct sl_mobility_config *c = m->cfg;
    bool pause = m->i % 2 == 0 && c->pause_s > 0;

    m->from_s = m->until_s;
    m->x0 = m->x1;
    m->y0 = m->y1;
    m->speed = 0;
    if (pause) {
        m->until_s += c->pause_s;
    } else {
        m->x1 = draw(m, 0) * c->width_m;
        m->y1 = draw(m, 1) * c->height_m;
        m->speed = c->speed_min_mps + draw(m, 2) * (c->speed_max_mps - c->speed_min_mps);
        m->until_s += sqrt((m->x1 - m->x0) * (m->x1 - m->x0) + (m->y1 - m->y0) * (m->y1 - m->y0)) / m->speed;
    }
    m->i++;
}

/* Speed and course remember; near the edge the mean course turns to the middle. */
static void next_step(struct sl_mobility *m)
{
    const struct sl_mobility_config *c = m->cfg;
    double mean = 0.5 * (c->speed_min_mps + c->speed_max_mps),
           sigma = 0.25 * (c->speed_max_mps - c->speed_min_mps);
    double a = c->memory, fresh = sqrt(1 - a * a), edge_x = 0.1 * c->width_m, edge_y = 0.1 * c->height_m;

    m->from_s = m->until_s;
    m->until_s += step_s;
    m->x0 = m->x1;
    m->y0 = m->y1;
    if (m->x0 < edge_x || m->x0 > c->width_m - edge_x || m->y0 < edge_y || m->y0 > c->height_m - edge_y)
        m->mean_course = atan2(c->height_m / 2 - m->y0, c->width_m / 2 - m->x0);
    m->speed = a * m->speed + (1 - a) * mean + fresh * sigma * normal(m->key, 2 * m->i);
    if (m->speed < 0)
        m->speed = 0;
    double turn = remainder(m->course - m->mean_course, 2 * M_PI); /* the short way round */
    m->course = m->mean_course + a * turn + fresh * 0.5 * normal(m->key, 2 * m->i + 1);
    m->x1 = fmin(fmax(m->x0 + m->speed * step_s * cos(m->course), 0), c->width_m);
    m->y1 = fmin(fmax(m->y0 + m->speed * step_s * sin(m->course), 0), c->height_m);
    m->i++;
}

double sl_mobility_at(struct sl_mobility *m, double t_s, double *x, double *y)
{
    if (m->cfg->kind == SL_MOBILITY_PATH)
        return path_at(m->cfg->path, t_s - m->from_s, x, y);
    if (m->cfg->kind == SL_MOBILITY_STATIC) {
        *x = m->x1;
        *y = m->y1;
        return 0;
    }
    while (t_s >= m->until_s)
        (m->cfg->kind == SL_MOBILITY_WAYPOINT ? next_leg : next_step)(m);
    double part = (t_s - m->from_s) / (m->until_s - m->from_s);
    *x = m->x0 + part * (m->x1 - m->x0);
    *y = m->y0 + part * (m->y1 - m->y0);
    return m->speed;
}
