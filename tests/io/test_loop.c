/* Both ends on one loop over 127.0.0.1, and peers that are strangers, silent, or die. */
#include "dataplane/io/uring/loop_internal.h"
#include "tests/control/pair.h"

#include <arpa/inet.h>
#include <errno.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <pthread.h>
#include <signal.h>
#include <stddef.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

enum { DEVICES_MAX = 64, GUARD_S = 60 /* far beyond what anything here takes: then it hangs */ };

struct scene {
    struct sl_loop *loop;
    char address[64];
    struct seen devices[DEVICES_MAX];
    unsigned n_devices;
    /* what the edge saw, all connections together */
    unsigned established, hellos, heartbeats, adapters, closed;
    Sluice__ErrorCode code;
    char text[SL_CONTROL_TEXT_MAX + 1], peer[80];
    struct sl_control *last;
    uint32_t handshakes_seen; /* most at a time */
    size_t floats;            /* of the last adapter */
    double sum;
    bool (*until)(struct scene *);
    uint64_t guard_ns;
    float *push; /* an adapter that the edge sends after Welcome */
    size_t push_n;
    bool refuse;
};
static struct scene *scene;

static void edge_established(void *app, struct sl_control *c)
{
    scene->established++;
    scene->last = c;
    snprintf(scene->peer, sizeof(scene->peer), "%s", sl_loop_peer(c));
}

static void edge_message(void *app, struct sl_control *c, const Sluice__Envelope *e)
{
    if (e->body_case == SLUICE__ENVELOPE__BODY_HELLO) {
        scene->hellos++;
        if (scene->refuse) {
            sl_control_refuse(c, SLUICE__ERROR_CODE__ERROR_FULL,
                "no session is free: raise edge.slots, or try again later");
            return;
        }
        assert_int_equal(send_welcome(c), 0);
        if (scene->push) {
            struct sl_adapter_transfer t = {
                .version = 1, .first = 0, .last = 8, .data = scene->push, .n = scene->push_n};

            assert_int_equal(sl_control_send_adapter(c, &t), 0);
        }
    }
    if (e->body_case == SLUICE__ENVELOPE__BODY_HEARTBEAT)
        scene->heartbeats++;
}

static void edge_adapter(void *app, struct sl_control *c, const struct sl_adapter_transfer *t)
{
    scene->adapters++;
    scene->floats = t->n;
    scene->sum = 0;
    for (size_t i = 0; i < t->n; i++)
        scene->sum += (double)t->data[i];
}

static void edge_closed(void *app, struct sl_control *c, Sluice__ErrorCode code, const char *text)
{
    scene->closed++;
    scene->code = code;
    snprintf(scene->text, sizeof(scene->text), "%s", text);
    sl_control_free(c);
    if (scene->last == c)
        scene->last = NULL;
}

static const struct sl_control_ops edge_ops = {edge_established, edge_message, edge_adapter, edge_closed};

static void poll_scene(void *app, uint64_t now_ns)
{
    struct scene *s = app;

    for (struct sl_loop_listener *l = s->loop->listeners; l; l = l->next)
        if (l->handshakes > s->handshakes_seen)
            s->handshakes_seen = l->handshakes;
    if (now_ns > s->guard_ns)
        fail_msg("nothing more happens");
    if (!s->until || s->until(s))
        sl_loop_stop(s->loop);
}

static void run_until(struct scene *s, bool (*until)(struct scene *))
{
    s->until = until;
    s->guard_ns = sl_loop_now_ns() + GUARD_S * second;
    assert_int_equal(sl_loop_run(s->loop, poll_scene, s, 5000000), 0);
}

static void scene_init(struct scene *s, uint32_t max, uint32_t handshakes, uint64_t handshake_timeout_ns)
{
    struct sl_control_config config = {
        .role = SL_CONTROL_EDGE, .adapter_bytes_max = 32 << 20, .handshake_timeout_ns = handshake_timeout_ns};
    char err[200] = "";
    int port;

    memset(s, 0, sizeof(*s));
    scene = s;
    if (sl_loop_create(max, &s->loop, err, sizeof(err)) != 0) {
        printf("SKIP: %s\n", err);
        exit(77);
    }
    port =
        sl_loop_listen(s->loop, "127.0.0.1:0", handshakes, edge_ctx, &config, &edge_ops, s, err, sizeof(err));
    if (port <= 0)
        fail_msg("%s", err);
    snprintf(s->address, sizeof(s->address), "127.0.0.1:%d", port);
}

static void scene_free(struct scene *s)
{
    sl_loop_free(s->loop);
    for (unsigned i = 0; i < s->n_devices; i++) {
        free(s->devices[i].floats);
        if (s->devices[i].control && !s->devices[i].free_in_closed)
            sl_control_free(s->devices[i].control);
    }
}

static struct seen *connect_device(struct scene *s, struct sl_tls_ctx *ctx, const char *address)
{
    struct sl_control_config config = {.role = SL_CONTROL_DEVICE, .adapter_bytes_max = 32 << 20};
    struct seen *d = &s->devices[s->n_devices++];

    d->on_established = hello_when_established;
    d->free_in_closed = true;
    assert_int_equal(sl_loop_connect(s->loop, address, ctx, &config, &seen_ops, d, d, &d->control), 0);
    assert_ptr_equal(sl_control_user(d->control), d);
    return d;
}

static bool all_welcome(struct scene *s)
{
    for (unsigned i = 0; i < s->n_devices; i++)
        if (!s->devices[i].kinds[SLUICE__ENVELOPE__BODY_WELCOME])
            return false;
    return true;
}

static bool all_closed(struct scene *s)
{
    for (unsigned i = 0; i < s->n_devices; i++)
        if (!s->devices[i].closed)
            return false;
    return s->closed >= s->established && sl_loop_connections(s->loop) == 0;
}

static bool a_heartbeat(struct scene *s)
{
    return s->heartbeats > 0;
}

static void connect__join_talk_and_leave(void **state)
{
    static struct scene s;
    struct seen *d;

    scene_init(&s, 8, 4, 0);
    d = connect_device(&s, device_ctx, s.address);
    run_until(&s, all_welcome);
    assert_int_equal(s.established, 1);
    assert_int_equal(s.hellos, 1);
    assert_non_null(strstr(s.peer, "127.0.0.1:"));
    assert_int_equal(send_heartbeat(d->control, 1), 0);
    sl_loop_flush(s.loop, d->control);
    run_until(&s, a_heartbeat);
    sl_control_bye(d->control, "all done");
    sl_loop_flush(s.loop, d->control);
    run_until(&s, all_closed);
    assert_int_equal(s.closed, 1);
    assert_string_equal(s.text, "all done");
    assert_int_equal(s.code, SLUICE__ERROR_CODE__ERROR_NONE);
    assert_int_equal(d->closed, 1);
    scene_free(&s);
}

/* The process dies: no goodbye, and each side's application hears of the end once. */
static void drop__ends_without_a_word(void **state)
{
    static struct scene s;
    struct seen *d;

    scene_init(&s, 8, 4, 0);
    d = connect_device(&s, device_ctx, s.address);
    run_until(&s, all_welcome);
    assert_int_equal(send_heartbeat(d->control, 1), 0); /* queued, and lost with it */
    sl_loop_drop(s.loop, d->control);
    assert_int_equal(d->closed, 0);
    run_until(&s, all_closed);
    assert_int_equal(d->closed, 1);
    assert_int_equal(s.closed, 1);
    assert_int_equal(s.heartbeats, 0);
    assert_string_equal(s.text, "the connection was lost");
    connect_device(&s, device_ctx, s.address); /* one that is still on its way */
    sl_loop_drop(s.loop, s.devices[1].control);
    run_until(&s, all_closed);
    assert_int_equal(s.devices[1].closed, 1);
    scene_free(&s);
}

static bool adapters_there(struct scene *s)
{
    return s->adapters == 1 && s->devices[0].adapters == 1;
}

static void send_adapter__many_mib_both_ways(void **state)
{
    enum { N = 6 << 20 }; /* 24 MiB */
    float *data = malloc(N * sizeof(float));
    static struct scene s;
    struct sl_adapter_transfer t = {.version = 2, .first = 0, .last = 8, .data = data, .n = N};
    struct seen *d;

    for (size_t i = 0; i < N; i++)
        data[i] = (float)(i % 8);
    scene_init(&s, 8, 4, 0);
    s.push = data;
    s.push_n = N;
    d = connect_device(&s, device_ctx, s.address);
    run_until(&s, all_welcome);
    assert_int_equal(sl_control_send_adapter(d->control, &t), 0);
    sl_loop_flush(s.loop, d->control);
    run_until(&s, adapters_there);
    assert_int_equal(s.floats, N);
    assert_true(s.sum == 3.5 * N);
    assert_int_equal(d->transfer.n, N);
    assert_memory_equal(d->floats, data, N * sizeof(float));
    scene_free(&s);
    assert_int_equal(d->closed, 1);
    free(data);
}

static bool all_adapters(struct scene *s)
{
    return s->adapters == s->n_devices;
}

/* More connections than handshakes at a time, then more bytes at once than receive buffers. */
static void listen__many_devices(void **state)
{
    enum { N = 300000 };
    float *data = calloc(N, sizeof(float));
    struct sl_adapter_transfer t = {.version = 2, .first = 0, .last = 8, .data = data, .n = N};
    static struct scene s;

    scene_init(&s, 2 * DEVICES_MAX, 5, 0);
    while (s.n_devices < DEVICES_MAX)
        connect_device(&s, device_ctx, s.address);
    run_until(&s, all_welcome);
    assert_int_equal(s.established, DEVICES_MAX);
    assert_in_range(s.handshakes_seen, 1, 5);
    for (unsigned i = 0; i < s.n_devices; i++) {
        assert_int_equal(sl_control_send_adapter(s.devices[i].control, &t), 0);
        sl_control_bye(s.devices[i].control, "bye");
        sl_loop_flush(s.loop, s.devices[i].control);
    }
    run_until(&s, all_adapters);
    run_until(&s, all_closed);
    assert_int_equal(s.closed, DEVICES_MAX);
    scene_free(&s);
    free(data);
}

static void connect__refusals_arrive_in_words(void **state)
{
    static struct scene s;
    struct seen *d;

    scene_init(&s, 8, 4, 0);
    s.refuse = true;
    d = connect_device(&s, device_ctx, s.address);
    run_until(&s, all_closed);
    assert_int_equal(d->code, SLUICE__ERROR_CODE__ERROR_FULL);
    assert_string_equal(d->text, "no session is free: raise edge.slots, or try again later");
    scene_free(&s);

    scene_init(&s, 8, 4, 0);
    d = connect_device(&s, stranger_ctx, s.address);
    run_until(&s, all_closed);
    assert_int_equal(s.established, 0);
    assert_non_null(strstr(s.text, "not of this fleet's CA"));
    assert_string_equal(d->text, "the edge refused our certificate: it is not of the peer's CA");
    scene_free(&s);
}

static void connect__nobody_there(void **state)
{
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
    socklen_t len = sizeof(a);
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    static struct scene s;
    char address[64], text[200];
    struct seen *d;

    /* bound and not listening: nobody else can listen there meanwhile */
    assert_int_equal(bind(fd, (struct sockaddr *)&a, len), 0);
    assert_int_equal(getsockname(fd, (struct sockaddr *)&a, &len), 0);
    snprintf(address, sizeof(address), "127.0.0.1:%u", ntohs(a.sin_port));
    scene_init(&s, 8, 4, 0);
    d = connect_device(&s, device_ctx, address);
    run_until(&s, all_closed);
    snprintf(text, sizeof(text), "cannot connect to %s: Connection refused (is sluice-edge running there?)",
        address);
    assert_string_equal(d->text, text);
    assert_int_equal(d->code, SLUICE__ERROR_CODE__ERROR_NONE);
    scene_free(&s);
    close(fd);
}

static void connect__address_that_is_none(void **state)
{
    const char *bad[] = {"", ":", "7443", "localhost:7443", "127.0.0.1", "127.0.0.1:", "127.0.0.1:7443x",
        "127.0.0.1:70000", "[::1:7443", "::1", "1.2.3:5", "127.0.0.1:-1"};
    static struct scene s;
    char err[200];

    scene_init(&s, 16, 4, 0);
    for (unsigned i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        struct sl_control_config config = {.role = SL_CONTROL_EDGE};
        struct seen *d = connect_device(&s, device_ctx, bad[i]);

        run_until(&s, all_closed);
        assert_non_null(
            strstr(d->text, "is not a numeric address with a port, such as 127.0.0.1:7443 or [::1]:7443"));
        assert_int_equal(
            sl_loop_listen(s.loop, bad[i], 4, edge_ctx, &config, &edge_ops, &s, err, sizeof(err)), -EINVAL);
    }
    scene_free(&s);
}

static void connect__too_many(void **state)
{
    struct sl_control_config config = {.role = SL_CONTROL_DEVICE};
    struct sl_control *c;
    static struct scene s;
    struct seen extra = {0};

    scene_init(&s, 2, 4, 0);
    connect_device(&s, device_ctx, s.address);
    connect_device(&s, device_ctx, s.address);
    assert_int_equal(
        sl_loop_connect(s.loop, s.address, device_ctx, &config, &seen_ops, &extra, NULL, &c), -EBUSY);
    assert_null(c);
    scene_free(&s);
    assert_int_equal(s.devices[0].closed + s.devices[1].closed, 2);
}

static void listen__port_taken(void **state)
{
    struct sl_control_config config = {.role = SL_CONTROL_EDGE};
    static struct scene s;
    char err[300];

    scene_init(&s, 8, 4, 0);
    assert_int_equal(sl_loop_listen(s.loop, s.address, 4, edge_ctx, &config, &edge_ops, &s, err, sizeof(err)),
        -EADDRINUSE);
    assert_non_null(strstr(err, s.address));
    assert_non_null(strstr(err, "is taken by another program: stop it"));
    assert_int_equal(
        sl_loop_listen(s.loop, "192.0.2.1:0", 4, edge_ctx, &config, &edge_ops, &s, err, sizeof(err)),
        -EADDRNOTAVAIL);
    assert_non_null(strstr(err, "no such address"));
    scene_free(&s);
}

static void listen__ipv6(void **state)
{
    struct sl_control_config config = {.role = SL_CONTROL_EDGE};
    static struct scene s;
    char err[300], address[64];
    int port;

    scene_init(&s, 8, 4, 0);
    port = sl_loop_listen(s.loop, "[::1]:0", 4, edge_ctx, &config, &edge_ops, &s, err, sizeof(err));
    if (port > 0) {
        snprintf(address, sizeof(address), "[::1]:%d", port);
        connect_device(&s, device_ctx, address);
        run_until(&s, all_welcome);
        assert_non_null(strstr(s.peer, "[::1]:"));
    } else {
        print_message("no IPv6 here: %s\n", err);
        assert_int_equal(port, -EADDRNOTAVAIL);
    }
    scene_free(&s);
}

static int stranger(const struct scene *s)
{
    struct sockaddr_storage a;
    socklen_t len;
    char err[100];
    int fd = socket(AF_INET, SOCK_STREAM, 0);

    assert_int_equal(sl_loop_parse_address(s->address, &a, &len, err, sizeof(err)), 0);
    assert_int_equal(connect(fd, (struct sockaddr *)&a, len), 0);
    return fd;
}

static bool one_closed(struct scene *s)
{
    return s->closed == 1 && sl_loop_connections(s->loop) == 0;
}

static void listen__garbage_and_silence(void **state)
{
    static struct scene s;
    int fd;

    scene_init(&s, 8, 4, 300000000);
    fd = stranger(&s);
    assert_int_equal(send(fd, "GET / HTTP/1.1\r\n\r\n", 18, 0), 18);
    run_until(&s, one_closed);
    assert_int_equal(s.code, SLUICE__ERROR_CODE__ERROR_PROTOCOL);
    assert_non_null(strstr(s.text, "TLS 1.3"));
    close(fd);

    s.closed = 0;
    fd = stranger(&s);
    run_until(&s, one_closed);
    assert_int_equal(s.code, SLUICE__ERROR_CODE__ERROR_TIMEOUT);
    close(fd);

    s.closed = 0;
    fd = stranger(&s);
    close(fd);
    run_until(&s, one_closed);
    assert_int_equal(s.code, SLUICE__ERROR_CODE__ERROR_NONE);
    assert_int_equal(s.established, 0);
    scene_free(&s);
}

/* Silent strangers hold every handshake that there is room for; when their time is up, the device gets in. */
static void listen__strangers_do_not_lock_devices_out(void **state)
{
    static struct scene s;
    int fds[6];

    scene_init(&s, 16, 2, 200000000);
    for (int i = 0; i < 6; i++)
        fds[i] = stranger(&s);
    connect_device(&s, device_ctx, s.address);
    run_until(&s, all_welcome);
    assert_in_range(s.handshakes_seen, 1, 2);
    assert_int_equal(s.established, 1);
    for (int i = 0; i < 6; i++)
        close(fds[i]);
    scene_free(&s);
}

static void run_device(const char *address)
{
    static struct scene s;
    char err[200];

    memset(&s, 0, sizeof(s));
    scene = &s;
    if (sl_loop_create(4, &s.loop, err, sizeof(err)) != 0)
        _exit(1);
    connect_device(&s, device_ctx, address);
    sl_loop_run(s.loop, NULL, NULL, 0);
    _exit(0);
}

static bool edge_has_one(struct scene *s)
{
    return s->hellos == 1;
}

static void peer__killed_in_the_middle_of_a_transfer(void **state)
{
    enum { N = 7 << 20 };
    float *data = calloc(N, sizeof(float));

    for (int stopped = 0; stopped < 2; stopped++) {
        static struct scene s;
        pid_t child;

        scene_init(&s, 8, 4, 0);
        s.push = data;
        s.push_n = N;
        child = fork();
        if (child == 0)
            run_device(s.address);
        run_until(&s, edge_has_one);
        if (stopped) { /* it reads no more: the send in flight stays so until the kill */
            kill(child, SIGSTOP);
            for (int i = 0; i < 20; i++)
                run_until(&s, NULL);
        }
        kill(child, SIGKILL);
        waitpid(child, NULL, 0);
        run_until(&s, one_closed);
        assert_int_equal(s.code, SLUICE__ERROR_CODE__ERROR_NONE);
        scene_free(&s);
    }
    free(data);
}

static void free__with_everything_open(void **state)
{
    static struct scene s;
    int fd;

    scene_init(&s, 16, 8, 0);
    for (int i = 0; i < 4; i++)
        connect_device(&s, device_ctx, s.address);
    run_until(&s, all_welcome);
    for (int i = 0; i < 4; i++)
        connect_device(&s, device_ctx, s.address); /* never got a turn */
    fd = stranger(&s);
    scene_free(&s);
    assert_int_equal(s.closed, 4);
    for (int i = 0; i < 8; i++)
        assert_int_equal(s.devices[i].closed, 1);
    assert_string_equal(s.devices[0].text, "the loop ended");
    close(fd);
}

static struct sl_loop *signalled;
static void on_signal(int number)
{
    sl_loop_stop(signalled);
}

static void stop__from_a_signal_handler(void **state)
{
    static struct scene s;
    pid_t parent = getpid(), child;

    scene_init(&s, 8, 4, 0);
    signalled = s.loop;
    signal(SIGUSR1, on_signal);
    child = fork();
    if (child == 0) {
        usleep(50000);
        kill(parent, SIGUSR1);
        _exit(0);
    }
    assert_int_equal(sl_loop_run(s.loop, NULL, NULL, 0), 0);
    waitpid(child, NULL, 0);
    signal(SIGUSR1, SIG_DFL);
    scene_free(&s);
}

static void *stop_it(void *loop)
{
    sl_loop_stop(loop);
    return NULL;
}

static void stop__from_another_thread_also_before_the_run(void **state)
{
    static struct scene s;
    pthread_t t;

    scene_init(&s, 8, 4, 0);
    sl_loop_stop(s.loop);
    assert_int_equal(sl_loop_run(s.loop, NULL, NULL, 0), 0);
    for (int i = 0; i < 20; i++) {
        pthread_create(&t, NULL, stop_it, s.loop);
        assert_int_equal(sl_loop_run(s.loop, NULL, NULL, 0), 0);
        pthread_join(t, NULL);
    }
    scene_free(&s);
}

static void *run_it(void *user)
{
    sl_loop_run(((struct scene *)user)->loop, NULL, NULL, 0);
    return NULL;
}

/* Created and freed here, run by a thread that has ended by then. */
static void free__after_the_loops_thread_has_ended(void **state)
{
    static struct scene s;
    pthread_t t;

    scene_init(&s, 8, 4, 0);
    connect_device(&s, device_ctx, s.address);
    pthread_create(&t, NULL, run_it, &s);
    usleep(50000);
    sl_loop_stop(s.loop);
    pthread_join(t, NULL);
    scene_free(&s);
    assert_int_equal(s.devices[0].closed, 1);
}

static void create__bad_sizes(void **state)
{
    struct sl_loop *loop;
    char err[200];

    assert_int_equal(sl_loop_create(0, &loop, err, sizeof(err)), -EINVAL);
    assert_int_equal(sl_loop_create(16001, &loop, err, sizeof(err)), -EINVAL);
    assert_null(loop);
    assert_int_equal(sl_loop_create(16000, &loop, err, sizeof(err)), 0);
    sl_loop_free(loop);
}

/* As a container's seccomp profile does it. */
static void create__not_permitted(void **state)
{
    struct sock_filter code[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_io_uring_setup, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    struct sock_fprog program = {sizeof(code) / sizeof(code[0]), code};
    int pipe_fd[2], status;
    char text[300] = "";
    pid_t child;

    assert_int_equal(pipe(pipe_fd), 0);
    child = fork();
    if (child == 0) {
        struct sl_loop *loop;
        char err[300] = "filter not installed";
        int result = 1;

        if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 &&
            prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) == 0)
            result = sl_loop_create(8, &loop, err, sizeof(err)) == -EPERM ? 0 : 2;
        if (write(pipe_fd[1], err, strlen(err)) < 0)
            result = 3;
        _exit(result);
    }
    waitpid(child, &status, 0);
    assert_true(read(pipe_fd[0], text, sizeof(text) - 1) > 0);
    close(pipe_fd[0]);
    close(pipe_fd[1]);
    assert_string_equal(text, "io_uring is not permitted here (Operation not permitted): allow it (sysctl "
                              "kernel.io_uring_disabled=0, "
                              "or the container's seccomp profile)");
    assert_int_equal(WEXITSTATUS(status), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(create__bad_sizes),
        cmocka_unit_test(create__not_permitted),
        cmocka_unit_test(free__with_everything_open),
        cmocka_unit_test(free__after_the_loops_thread_has_ended),
        cmocka_unit_test(stop__from_a_signal_handler),
        cmocka_unit_test(stop__from_another_thread_also_before_the_run),
        cmocka_unit_test(listen__port_taken),
        cmocka_unit_test(listen__ipv6),
        cmocka_unit_test(listen__many_devices),
        cmocka_unit_test(listen__garbage_and_silence),
        cmocka_unit_test(listen__strangers_do_not_lock_devices_out),
        cmocka_unit_test(connect__join_talk_and_leave),
        cmocka_unit_test(drop__ends_without_a_word),
        cmocka_unit_test(connect__refusals_arrive_in_words),
        cmocka_unit_test(connect__nobody_there),
        cmocka_unit_test(connect__address_that_is_none),
        cmocka_unit_test(connect__too_many),
        cmocka_unit_test(send_adapter__many_mib_both_ways),
        cmocka_unit_test(peer__killed_in_the_middle_of_a_transfer),
    };

    return cmocka_run_group_tests_name("io/uring/loop", tests, contexts_create, contexts_free);
}
