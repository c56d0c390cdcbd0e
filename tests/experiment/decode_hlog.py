#!/usr/bin/python3
"""Decodes a HdrHistogram log (format V2) from its description and checks the values test_histogram.c recorded: 1000 * i^2, i < 1000."""
import base64
import struct
import sys
import zlib


def leb128_zigzag(data):
    at = 0
    while at < len(data):
        value = shift = 0
        for i in range(9):
            byte = data[at]
            at += 1
            if i == 8:
                value |= byte << shift
                break
            value |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                break
        yield (value >> 1) ^ -(value & 1)


def decode(text):
    packed = base64.b64decode(text, validate=True)
    cookie, length = struct.unpack(">ii", packed[:8])
    assert cookie & ~0xF0 == 0x1C849304 and length == len(packed) - 8
    plain = zlib.decompress(packed[8:])
    cookie, length, offset, digits, lowest, highest, ratio = struct.unpack(">iiiiqqd", plain[:40])
    assert cookie & ~0xF0 == 0x1C849303 and offset == 0 and lowest == 1 and ratio == 1.0 and highest > 0
    half = (1 << (2 * 10**digits - 1).bit_length()) // 2
    counts, index = {}, 0
    for n in leb128_zigzag(plain[40:40 + length]):
        if n < 0:
            index -= n
            continue
        if n:
            bucket, sub = index // half - 1, index % half + half
            if bucket < 0:
                bucket, sub = 0, sub - half
            counts[sub << bucket] = (n, 1 << bucket)
        index += 1
    return counts


def main():
    lines = open(sys.argv[1], encoding="ascii").read().splitlines()
    assert lines[0].startswith("#[Histogram log format version 1.")
    tag, start, length, maximum, encoded = lines[-1].split(",")
    assert (tag, start, length) == ("Tag=message", "0.000", "3.000"), lines[-1]
    assert abs(float(maximum) - 999 * 999 * 1000 / 1e6) < 1e-3
    counts = decode(encoded)
    values = [i * i * 1000 for i in range(1000)]
    assert sum(n for n, _ in counts.values()) == len(values)
    for low, (n, width) in counts.items():
        inside = sum(low <= v < low + width for v in values)
        assert inside == n, (low, width, n, inside)


main()
