/* Bytes of a stranger to an edge's TLS, in pieces. */
#include "tests/crypto/hex.h"
#include "tests/fuzz/fuzz_tls_contexts.h"

#include <stdlib.h>
#include <string.h>

/* A ClientHello for TLS 1.3, as OpenSSL writes it. */
static const char client_hello[] =
    "16030100dc010000d803039dca78de14924cad558a61ed353b063ef74ac104c54ad4d3c71acf4d2a6d92e3205d451e7f628e8408"
    "63c59296048f726e98ce4a1900e68910fde10e71ead815cd000813021303130100ff01000087000b000403000102000a00160014"
    "001d0017001e0019001801000101010201030104002300000016000000170000000d001e001c040305030603080708080809080a"
    "080b080408050806040105010601002b0003020304002d00020101003300260024001d00206f73d2968c277bba1094e14503779f"
    "d5e3a9c09bb260a1228ddf6fc46b130601";

size_t sl_fuzz_seed(unsigned index, uint8_t *buf, size_t cap)
{
    return index == 0 && cap >= sizeof(client_hello) / 2 ? unhex(client_hello, buf) : 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    uint8_t out[4096];
    struct sl_tls *t;
    int err = 0;

    if (sl_tls_create(fuzz_tls_context(), &t) != 0)
        abort();
    for (size_t at = 0, n; at < size; at += n) {
        n = size - at < 97 ? size - at : 97;
        err = sl_tls_feed(t, data + at, n);
        while (sl_tls_drain(t, out, sizeof(out)) > 0)
            ;
        if (err && !sl_tls_error(t)[0])
            abort(); /* a refusal without a reason */
        if (sl_tls_read(t, out, sizeof(out)) > 0 || sl_tls_established(t))
            abort(); /* nobody gets in without a certificate */
    }
    sl_tls_free(t);
    return 0;
}
