/* The files of a model directory, and the hash that two ends compare to know that they have the same model.
 */
#include "trainer/model/model_files.h"
#include "trainer/model/fail.h"
#include "trainer/model/model.h"

#include <errno.h>
#include <fcntl.h>
#include <openssl/evp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { MAX_INDEX = 64 << 20, MAX_SHARDS = 4096, CHUNK = 1 << 20 };

static int add_path(struct sl_model_files *f, const char *dir, const char *name)
{
    char **p = realloc(f->paths, (f->n + 1) * sizeof *p);
    if (!p)
        return -ENOMEM;
    f->paths = p;
    if (asprintf(&f->paths[f->n], "%s/%s", dir, name) < 0)
        return -ENOMEM;
    f->n++;
    return 0;
}

static const char *base_name(const char *path)
{
    const char *slash = strrchr(path, '/');
    return slash ? slash + 1 : path;
}

/* The number of a file by its name inside the directory; -1: not listed yet. */
static int64_t find_file(const struct sl_model_files *f, const char *name)
{
    for (uint32_t i = 0; i < f->n; i++)
        if (strcmp(base_name(f->paths[i]), name) == 0)
            return i;
    return -1;
}

static int read_index(struct sl_model_files *f, const char *dir, const char *path, char *err, size_t err_cap)
{
    char *text;
    size_t len;
    int code = sl_read_file(path, MAX_INDEX, &text, &len, err, err_cap);
    if (code)
        return code;
    code = sl_json_parse(text, len, path, &f->index, err, err_cap);
    free(text);
    if (code)
        return code;
    const cJSON *map = sl_json_get(f->index, "weight_map");
    if (!cJSON_IsObject(map) || !map->child)
        return sl_fail(-EINVAL, err, err_cap, "%s: no weight_map", path);
    for (const cJSON *v = map->child; v && !code; v = v->next) {
        const char *name = cJSON_IsString(v) ? v->valuestring : "";
        if (!*name || *name == '.' || strchr(name, '/'))
            return sl_fail(-EINVAL, err, err_cap,
                "%s: %.100s: \"%.100s\" is not the name of a file beside the index", path, v->string, name);
        if (find_file(f, name) >= 0)
            continue;
        if (f->n == MAX_SHARDS)
            return sl_fail(-EINVAL, err, err_cap, "%s: more than %d files", path, MAX_SHARDS);
        code = add_path(f, dir, name);
    }
    return code ? sl_fail(code, err, err_cap, "%s: %s", path, strerror(-code)) : 0;
}

int sl_model_files(const char *dir, struct sl_model_files *f, char *err, size_t err_cap)
{
    static const char single[] = "model.safetensors", index[] = "model.safetensors.index.json";
    memset(f, 0, sizeof *f);
    int code = add_path(f, dir, single);
    if (code)
        return sl_fail(code, err, err_cap, "%s: out of memory", dir);
    if (access(f->paths[0], F_OK) == 0)
        return 0;
    char *path = NULL;
    if (asprintf(&path, "%s/%s", dir, index) < 0)
        code = sl_fail(-ENOMEM, err, err_cap, "%s: out of memory", dir);
    else if (access(path, F_OK) != 0)
        code = sl_fail(-ENOENT, err, err_cap,
            "%s: neither %s nor %s is there (files named pytorch_model.bin must be converted first)", dir,
            single, index);
    free(f->paths[0]);
    f->n = 0;
    if (!code)
        code = read_index(f, dir, path, err, err_cap);
    free(path);
    if (code)
        sl_model_files_free(f);
    return code;
}

void sl_model_files_free(struct sl_model_files *f)
{
    for (uint32_t i = 0; i < f->n; i++)
        free(f->paths[i]);
    free(f->paths);
    cJSON_Delete(f->index);
    memset(f, 0, sizeof *f);
}

int64_t sl_model_files_place(const struct sl_model_files *f, const char *tensor)
{
    const cJSON *v = sl_json_get(sl_json_get(f->index, "weight_map"), tensor);
    return cJSON_IsString(v) ? find_file(f, v->valuestring) : -1;
}

static int hash_file(EVP_MD_CTX *ctx, const char *path, char *err, size_t err_cap)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0)
        return sl_fail(errno == ENOENT ? -ENOENT : -EIO, err, err_cap, "%s: %s", path, strerror(errno));
    struct stat st;
    if (fstat(fd, &st) || !S_ISREG(st.st_mode)) {
        close(fd);
        return sl_fail(-EINVAL, err, err_cap, "%s: not a regular file", path);
    }
    char *chunk = malloc(CHUNK);
    int code = chunk ? 0 : -ENOMEM;
    while (!code) {
        ssize_t n = read(fd, chunk, CHUNK);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0) {
            code = n < 0 ? -errno : 0;
            break;
        }
        code = EVP_DigestUpdate(ctx, chunk, (size_t)n) == 1 ? 0 : -EIO;
    }
    free(chunk);
    close(fd);
    return code ? sl_fail(code, err, err_cap, "%s: %s", path, strerror(-code)) : 0;
}

int sl_model_hash(const char *dir, uint8_t hash[32], char *err, size_t err_cap)
{
    struct sl_model_files files;
    char *config = NULL;
    int code = sl_model_files(dir, &files, err, err_cap);
    if (code)
        return code;
    EVP_MD_CTX *ctx = EVP_MD_CTX_new();
    if (!ctx || EVP_DigestInit_ex(ctx, EVP_sha256(), NULL) != 1 ||
        asprintf(&config, "%s/config.json", dir) < 0) {
        config = NULL;
        code = sl_fail(-ENOMEM, err, err_cap, "%s: out of memory", dir);
    }
    if (!code)
        code = hash_file(ctx, config, err, err_cap);
    for (uint32_t i = 0; i < files.n && !code; i++)
        code = hash_file(ctx, files.paths[i], err, err_cap);
    if (!code && EVP_DigestFinal_ex(ctx, hash, NULL) != 1)
        code = sl_fail(-EIO, err, err_cap, "%s: SHA-256 failed", dir);
    EVP_MD_CTX_free(ctx);
    free(config);
    sl_model_files_free(&files);
    return code;
}
