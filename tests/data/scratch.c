#include "tests/data/scratch.h"

#include <ftw.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

struct scratch scratch_make(void)
{
    struct scratch dir;
    const char *root = getenv("TMPDIR");
    snprintf(dir.path, sizeof dir.path, "%s/sluice-test-XXXXXX", root ? root : "/tmp");
    assert_non_null(mkdtemp(dir.path));
    return dir;
}

static void place(const struct scratch *dir, const char *name, char path[512])
{
    snprintf(path, 512, "%s/%s", dir->path, name);
}

void scratch_write_bytes(const struct scratch *dir, const char *name, const void *bytes, size_t len)
{
    char path[512];
    place(dir, name, path);
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    assert_int_equal(fwrite(bytes, 1, len, file), len);
    assert_int_equal(fclose(file), 0);
}

void scratch_write(const struct scratch *dir, const char *name, const char *text)
{
    scratch_write_bytes(dir, name, text, strlen(text));
}

void scratch_link(const struct scratch *dir, const char *to, const char *name)
{
    char path[512];
    place(dir, name, path);
    assert_int_equal(symlink(to, path), 0);
}

void scratch_mkdir(const struct scratch *dir, const char *name)
{
    char path[512];
    place(dir, name, path);
    assert_int_equal(mkdir(path, 0700), 0);
}

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *where)
{
    return remove(path);
}

void scratch_remove(struct scratch *dir)
{
    assert_int_equal(nftw(dir->path, remove_one, 16, FTW_DEPTH | FTW_PHYS), 0);
}
