/* Overstrikes of line printers and pagers: a line is laid out in character cells, as on paper. */
#include "trainer/data/text.h"

#include <ctype.h>
#include <string.h>

/* A cell is one UTF-8 character, kept as its place in the line; the line is rewritten only after it was laid
 * out. */
struct cell {
    uint32_t at, len;
};

static uint32_t char_len(const char *text, size_t left)
{
    uint8_t lead = (uint8_t)*text;
    uint32_t want = lead >= 0xf0 ? 4 : lead >= 0xe0 ? 3 : lead >= 0xc0 ? 2 : 1, n = 1;
    while (n < want && n < left && ((uint8_t)text[n] & 0xc0) == 0x80)
        n++;
    return n;
}

static bool is_letter(const char *c)
{
    return isalnum((unsigned char)*c) || (uint8_t)*c >= 0x80;
}

/* Whether `below`, struck first, shows through `above`. */
static bool shows(const char *below, const char *above)
{
    return is_letter(below) ? !is_letter(above) : *above == '_' || *above == ' ';
}

/* No printed line is longer; of one that is, only the backspaces themselves are removed. */
enum { MAX_CELLS = 4096 };

static size_t lay_out(const char *line, size_t len, char *out)
{
    struct cell cells[MAX_CELLS];
    size_t n = 0, column = 0;
    for (size_t i = 0; i < len;) {
        if (line[i] == '\b') {
            column -= column > 0;
            i++;
            continue;
        }
        struct cell c = {(uint32_t)i, char_len(line + i, len - i)};
        if (column == n)
            cells[n++] = c;
        else if (!shows(line + cells[column].at, line + c.at))
            cells[column] = c;
        column++;
        i += c.len;
    }
    size_t at = 0;
    for (size_t k = 0; k < n; at += cells[k++].len)
        memcpy(out + at, line + cells[k].at, cells[k].len);
    return at;
}

size_t sl_text_remove_overstrikes(char *text, size_t len)
{
    if (!memchr(text, '\b', len))
        return len;
    size_t to = 0;
    for (size_t from = 0; from < len;) {
        const char *eol = memchr(text + from, '\n', len - from);
        size_t n = eol ? (size_t)(eol - (text + from)) : len - from;
        char line[MAX_CELLS];
        if (n <= MAX_CELLS && memchr(text + from, '\b', n)) {
            size_t kept = lay_out(text + from, n, line);
            memcpy(text + to, line, kept);
            to += kept;
        } else {
            for (size_t i = 0; i < n; i++) {
                if (text[from + i] != '\b')
                    text[to++] = text[from + i];
            }
        }
        if (eol)
            text[to++] = '\n';
        from += n + (eol != NULL);
    }
    return to;
}
