/* The XDP program as an ELF object, as a BPF compiler would leave it: libbpf wants the map described by BTF
 * in a section ".maps", and a relocation where the program names it. (ELF: System V ABI; BTF: the kernel's
 * Documentation/bpf/btf.rst.) */
#include "dataplane/io/dpdk/xdp_steer.h"

#include <elf.h>
#include <errno.h>
#include <linux/btf.h>
#include <stdbool.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

enum { OBJECT_MAX = 4096, KEY_BYTES = 4, VALUE_BYTES = 4, POINTER_BYTES = 8, N_MEMBERS = 4 };
enum { MAP_BYTES = N_MEMBERS * POINTER_BYTES };
enum { S_NULL, S_NAMES, S_SYMBOLS, S_PROGRAM, S_RELOCATIONS, S_MAPS, S_LICENSE, S_BTF, N_SECTIONS };
enum { SYMBOL_NULL, SYMBOL_PROGRAM, SYMBOL_MAP, SYMBOL_LICENSE, N_SYMBOLS };

struct text {
    char at[256];
    uint32_t n;
};

static uint32_t name(struct text *t, const char *s)
{
    uint32_t at = t->n;
    size_t n = strlen(s) + 1;
    memcpy(t->at + at, s, n);
    t->n += (uint32_t)n;
    return at;
}

struct words {
    uint32_t at[96];
    unsigned n;
};

static void word(struct words *w, uint32_t v)
{
    w->at[w->n++] = v;
}

/* A type's head; types are numbered from 1 in the order of their making. */
static void type(struct words *w, uint32_t name_at, uint32_t kind, uint32_t n, uint32_t size_or_type)
{
    word(w, name_at);
    word(w, kind << 24 | n);
    word(w, size_or_type);
}

enum { T_INT = 1 };
/* `int (*)[n]`: how a map's definition says a number. Makes types `id` and `id + 1`, the second being it. */
static uint32_t number(struct words *w, uint32_t id, uint32_t n)
{
    type(w, 0, BTF_KIND_ARRAY, 0, 0);
    word(w, T_INT);
    word(w, T_INT);
    word(w, n);
    type(w, 0, BTF_KIND_PTR, 0, id);
    return id + 1;
}

static uint32_t btf(uint8_t *out)
{
    static const char *const members[N_MEMBERS] = {"type", "key_size", "value_size", "max_entries"};
    struct text s = {.n = 1};
    struct words w = {.n = 0};
    type(&w, name(&s, "int"), BTF_KIND_INT, 0, 4);
    word(&w, BTF_INT_SIGNED << 24 | 32);
    uint32_t numbers[N_MEMBERS] = {number(&w, 2, BPF_MAP_TYPE_XSKMAP), number(&w, 4, KEY_BYTES),
        number(&w, 6, VALUE_BYTES), number(&w, 8, SL_XDP_QUEUES)};
    enum { T_MAP = 10, T_VARIABLE };
    type(&w, 0, BTF_KIND_STRUCT, N_MEMBERS, MAP_BYTES);
    for (unsigned i = 0; i < N_MEMBERS; i++) {
        word(&w, name(&s, members[i]));
        word(&w, numbers[i]);
        word(&w, i * POINTER_BYTES * 8);
    }
    type(&w, name(&s, "xsks_map"), BTF_KIND_VAR, 0, T_MAP);
    word(&w, BTF_VAR_GLOBAL_ALLOCATED);
    type(&w, name(&s, ".maps"), BTF_KIND_DATASEC, 1, MAP_BYTES);
    word(&w, T_VARIABLE);
    word(&w, 0);
    word(&w, MAP_BYTES);
    struct btf_header h = {.magic = BTF_MAGIC,
        .version = BTF_VERSION,
        .hdr_len = sizeof(h),
        .type_len = w.n * 4,
        .str_off = w.n * 4,
        .str_len = s.n};
    memcpy(out, &h, sizeof(h));
    memcpy(out + sizeof(h), w.at, h.type_len);
    memcpy(out + sizeof(h) + h.str_off, s.at, s.n);
    return (uint32_t)sizeof(h) + h.str_off + s.n;
}

struct object {
    uint8_t at[OBJECT_MAX];
    size_t n;
    Elf64_Shdr sections[N_SECTIONS];
    struct text names;
};

static void section(
    struct object *o, unsigned index, Elf64_Shdr head, const char *called, const void *bytes, size_t n)
{
    o->n = (o->n + 7) / 8 * 8;
    head.sh_name = name(&o->names, called);
    head.sh_offset = o->n;
    head.sh_size = n;
    head.sh_addralign = 8;
    o->sections[index] = head;
    memcpy(o->at + o->n, bytes, n);
    o->n += n;
}

static void build(struct object *o, uint16_t first_port, uint16_t n_ports)
{
    struct bpf_insn program[SL_XDP_STEER_MAX];
    static const char license[] = "Apache-2.0";
    static const uint8_t map[MAP_BYTES];
    uint8_t types[1024];
    unsigned map_at;
    size_t bytes =
        sl_xdp_steer(program, first_port, n_ports, XDP_PASS, XDP_PASS, &map_at) * sizeof(program[0]);
    o->n = sizeof(Elf64_Ehdr);
    o->names.n = 1;
    Elf64_Sym symbols[N_SYMBOLS] = {
        [SYMBOL_PROGRAM] = {.st_name = name(&o->names, SL_XDP_STEER_NAME),
            .st_info = ELF64_ST_INFO(STB_GLOBAL, STT_FUNC),
            .st_shndx = S_PROGRAM,
            .st_size = bytes},
        [SYMBOL_MAP] = {.st_name = name(&o->names, "xsks_map"),
            .st_info = ELF64_ST_INFO(STB_GLOBAL, STT_OBJECT),
            .st_shndx = S_MAPS,
            .st_size = MAP_BYTES},
        [SYMBOL_LICENSE] = {.st_name = name(&o->names, "_license"),
            .st_info = ELF64_ST_INFO(STB_GLOBAL, STT_OBJECT),
            .st_shndx = S_LICENSE,
            .st_size = sizeof(license)},
    };
    Elf64_Rel relocation = {
        .r_offset = map_at * sizeof(program[0]), .r_info = ELF64_R_INFO(SYMBOL_MAP, R_BPF_64_64)};
    section(o, S_SYMBOLS,
        (Elf64_Shdr){
            .sh_type = SHT_SYMTAB, .sh_link = S_NAMES, .sh_info = 1, .sh_entsize = sizeof(Elf64_Sym)},
        ".symtab", symbols, sizeof(symbols));
    section(o, S_PROGRAM, (Elf64_Shdr){.sh_type = SHT_PROGBITS, .sh_flags = SHF_ALLOC | SHF_EXECINSTR}, "xdp",
        program, bytes);
    section(o, S_RELOCATIONS,
        (Elf64_Shdr){
            .sh_type = SHT_REL, .sh_link = S_SYMBOLS, .sh_info = S_PROGRAM, .sh_entsize = sizeof(Elf64_Rel)},
        ".relxdp", &relocation, sizeof(relocation));
    section(o, S_MAPS, (Elf64_Shdr){.sh_type = SHT_PROGBITS, .sh_flags = SHF_ALLOC | SHF_WRITE}, ".maps", map,
        sizeof(map));
    section(o, S_LICENSE, (Elf64_Shdr){.sh_type = SHT_PROGBITS, .sh_flags = SHF_ALLOC | SHF_WRITE}, "license",
        license, sizeof(license));
    section(o, S_BTF, (Elf64_Shdr){.sh_type = SHT_PROGBITS}, ".BTF", types, btf(types));
    uint32_t own = name(&o->names, ".strtab");
    section(o, S_NAMES, (Elf64_Shdr){.sh_type = SHT_STRTAB}, "", o->names.at, o->names.n);
    o->sections[S_NAMES].sh_name = own;
    o->n = (o->n + 7) / 8 * 8;
    Elf64_Ehdr head = {.e_ident = {ELFMAG0, ELFMAG1, ELFMAG2, ELFMAG3, ELFCLASS64, ELFDATA2LSB, EV_CURRENT},
        .e_type = ET_REL,
        .e_machine = EM_BPF,
        .e_version = EV_CURRENT,
        .e_shoff = o->n,
        .e_ehsize = sizeof(head),
        .e_shentsize = sizeof(Elf64_Shdr),
        .e_shnum = N_SECTIONS,
        .e_shstrndx = S_NAMES};
    memcpy(o->at, &head, sizeof(head));
    memcpy(o->at + o->n, o->sections, sizeof(o->sections));
    o->n += sizeof(o->sections);
}

int sl_xdp_steer_object(uint16_t first_port, uint16_t n_ports)
{
    struct object o = {.n = 0};
    build(&o, first_port, n_ports);
    int fd = memfd_create("sl_steer.o", MFD_CLOEXEC);
    if (fd < 0)
        return -errno;
    if (write(fd, o.at, o.n) == (ssize_t)o.n)
        return fd;
    int e = errno;
    close(fd);
    return -e;
}
