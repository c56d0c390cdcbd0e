#include "dataplane/io/lcore/privileges.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/capability.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { DEPTH_MAX = 8 }; /* of a run directory: adapters/global is 2 */

bool sl_privileges_for_port(const char *backend)
{
    static const char *const free[] = {"memif", "pcap:", "net_null", "net_ring", "net_pcap"};
    for (size_t i = 0; i < sizeof(free) / sizeof(free[0]); i++)
        if (strncmp(backend, free[i], strlen(free[i])) == 0)
            return false;
    return true;
}

/* ---- who ---- */

static bool number(const char *text, unsigned *out)
{
    char *end;
    if (text == NULL || *text < '0' || *text > '9')
        return false;
    errno = 0;
    unsigned long n = strtoul(text, &end, 10);
    *out = (unsigned)n;
    return errno == 0 && *end == '\0' && n < UINT32_MAX; /* the largest means "unchanged" */
}

/* 1 found, 0 nobody, or -errno. */
static int choose(const struct sl_privileges *p, uid_t *uid, gid_t *gid, char *err, size_t cap)
{
    struct stat st;
    if (p->user != NULL) {
        struct passwd *found = getpwnam(p->user);
        if (found == NULL) {
            snprintf(err, cap, "there is no user %s to become", p->user);
            return -ENOENT;
        }
        *uid = found->pw_uid;
        *gid = found->pw_gid;
        return *uid != 0;
    }
    if (number(getenv("SUDO_UID"), uid) && number(getenv("SUDO_GID"), gid) && *uid != 0)
        return 1;
    if (p->run_dir == NULL || stat(p->run_dir, &st) != 0 || st.st_uid == 0)
        return 0;
    *uid = st.st_uid;
    *gid = st.st_gid;
    return 1;
}

/* ---- the run directory ---- */

static int hand_over(int dir, uid_t uid, gid_t gid, unsigned depth);

/* Only what is root's changes hands, and no file that has another name elsewhere. */
static int hand_over_entry(int dir, const char *name, uid_t uid, gid_t gid, unsigned depth)
{
    struct stat st;
    if (fstatat(dir, name, &st, AT_SYMLINK_NOFOLLOW) != 0)
        return errno == ENOENT ? 0 : -errno;
    if (S_ISDIR(st.st_mode)) {
        int fd = openat(dir, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        int ret = fd < 0 ? -errno : depth == DEPTH_MAX ? -ELOOP : hand_over(fd, uid, gid, depth + 1);
        if (fd >= 0)
            close(fd);
        return ret;
    }
    if (st.st_uid != 0 || st.st_nlink != 1)
        return 0;
    return fchownat(dir, name, uid, gid, AT_SYMLINK_NOFOLLOW) == 0 ? 0 : -errno;
}

/* What lies in it first: as long as it is root's, nobody else can put other files in their place. */
static int hand_over(int dir, uid_t uid, gid_t gid, unsigned depth)
{
    struct stat st;
    if (fstat(dir, &st) != 0)
        return -errno;
    if (st.st_uid != 0)
        return 0;
    int copy = dup(dir), ret = 0;
    DIR *d = copy < 0 ? NULL : fdopendir(copy);
    if (d == NULL) {
        ret = -errno;
        if (copy >= 0)
            close(copy);
        return ret;
    }
    for (struct dirent *e; ret == 0 && (e = readdir(d)) != NULL;)
        if (strcmp(e->d_name, ".") != 0 && strcmp(e->d_name, "..") != 0)
            ret = hand_over_entry(dir, e->d_name, uid, gid, depth);
    closedir(d);
    if (ret == 0 && fchown(dir, uid, gid) != 0)
        ret = -errno;
    return ret;
}

static int hand_over_run(const char *path, uid_t uid, gid_t gid)
{
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    int ret = fd < 0 ? -errno : hand_over(fd, uid, gid, 0);
    if (fd >= 0)
        close(fd);
    return ret;
}

/* ---- becoming ---- */

/* Of this thread: capset knows no other. */
static int keep_only(uint32_t capabilities)
{
    struct __user_cap_header_struct head = {.version = _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct set[2] = {{.effective = capabilities, .permitted = capabilities}};
    return syscall(SYS_capset, &head, set) == 0 ? 0 : -errno;
}

static int become(uid_t uid, gid_t gid, bool keep_net_admin)
{
    uint32_t keep = keep_net_admin ? 1u << CAP_NET_ADMIN : 0;
    if (keep != 0 && prctl(PR_SET_KEEPCAPS, 1, 0, 0, 0) != 0)
        return -errno;
    /* The C library changes every thread, and the kernel clears each one's capabilities with that. */
    if (setgroups(0, NULL) != 0 || setresgid(gid, gid, gid) != 0 || setresuid(uid, uid, uid) != 0)
        return -errno;
    if (prctl(PR_SET_KEEPCAPS, 0, 0, 0, 0) != 0)
        return -errno;
    int ret = keep_only(keep);
    if (ret == 0 && (setuid(0) == 0 || geteuid() != uid || getegid() != gid))
        ret = -EPERM;
    return ret;
}

int sl_privileges_drop(const struct sl_privileges *p, char *said, size_t said_cap, char *err, size_t err_cap)
{
    uid_t uid = 0;
    gid_t gid = 0;
    if (said_cap > 0)
        said[0] = '\0';
    if (geteuid() != 0)
        return 0;
    int ret = choose(p, &uid, &gid, err, err_cap);
    if (ret < 0)
        return ret;
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0)
        return -errno;
    if (ret == 0) {
        snprintf(said, said_cap, "running as root: name a user to become with --user");
        return 0;
    }
    ret = p->run_dir != NULL ? hand_over_run(p->run_dir, uid, gid) : 0;
    if (ret != 0) {
        snprintf(err, err_cap, "%s: cannot be given to user %u: %s", p->run_dir, uid, strerror(-ret));
        return ret;
    }
    ret = become(uid, gid, p->keep_net_admin);
    if (ret != 0) {
        snprintf(err, err_cap, "cannot go from root to user %u: %s", uid, strerror(-ret));
        return ret;
    }
    if (p->run_dir != NULL && access(p->run_dir, R_OK | W_OK | X_OK) != 0) {
        ret = -errno;
        snprintf(err, err_cap, "%s: user %u cannot write there: %s; make it with that user", p->run_dir, uid,
            strerror(-ret));
        return ret;
    }
    snprintf(said, said_cap, "privileges dropped: user %u, group %u%s", uid, gid,
        p->keep_net_admin ? ", CAP_NET_ADMIN kept to take the XDP program off" : "");
    return 0;
}

void sl_privileges_drop_thread(void)
{
    if (geteuid() != 0)
        keep_only(0); /* less is always allowed */
}
