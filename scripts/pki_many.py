#!/usr/bin/python3
"""Certificates for thousands of devices in one process: what `scripts/pki issue` does, which starts openssl for each.

Called by scripts/pki issue where there are many names: pki_many.py DIR DAYS < names. P-256, as the others."""
import datetime
import os
import sys

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec


def write(path, data, mode):
    """Never over a file that is there."""
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    with os.fdopen(fd, "wb") as f:
        f.write(data)


def issue(directory, name, days, ca, ca_key):
    key, now = ec.generate_private_key(ec.SECP256R1()), datetime.datetime.utcnow()
    usage = x509.KeyUsage(digital_signature=True, content_commitment=False, key_encipherment=False, data_encipherment=False,
                          key_agreement=False, key_cert_sign=False, crl_sign=False, encipher_only=False, decipher_only=False)
    builder = (x509.CertificateBuilder().subject_name(x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])).issuer_name(ca.subject)
               .public_key(key.public_key()).serial_number(x509.random_serial_number()).not_valid_before(now)
               .not_valid_after(now + datetime.timedelta(days=days))
               .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True).add_extension(usage, critical=True)
               .add_extension(x509.ExtendedKeyUsage([x509.ExtendedKeyUsageOID.CLIENT_AUTH]), critical=False)
               .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
               .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(ca.public_key()), critical=False))
    certificate = builder.sign(ca_key, hashes.SHA256())
    write(os.path.join(directory, name + ".key"), key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8,
                                                                     serialization.NoEncryption()), 0o600)
    write(os.path.join(directory, name + ".pem"), certificate.public_bytes(serialization.Encoding.PEM), 0o644)


def main():
    directory, days = sys.argv[1], int(sys.argv[2])
    with open(os.path.join(directory, "ca.pem"), "rb") as f:
        ca = x509.load_pem_x509_certificate(f.read())
    with open(os.path.join(directory, "ca.key"), "rb") as f:
        ca_key = serialization.load_pem_private_key(f.read(), None)
    try:
        for name in sys.stdin.read().split():
            issue(directory, name, days, ca, ca_key)
    except FileExistsError as error:
        sys.exit(f"scripts/pki: {error.filename} exists: it is not overwritten; remove it first if that is what you want")


if __name__ == "__main__":
    main()
