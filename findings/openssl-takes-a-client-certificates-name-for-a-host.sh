#!/usr/bin/env bash
# Expected: name constraints on DNS names judge the DNS names among a certificate's subject alternative names. A
#   client certificate that has one URI there (SPIFFE) has none, whatever its common name is.
# Happens: OpenSSL then takes the common name for a DNS name, if it looks like one: "node7.test" fails with
#   "permitted subtree violation", "node7" and "node 7.test" pass, and "node7.test" passes beside a DNS name that
#   is permitted. Python's cryptography goes by the alternative names only, and passes all four.
# Seen 2026-11-29 with OpenSSL 3.0 (Debian 12) and cryptography 50.0.2 (PyPI).
# Matters: nodes whose certificates differ by their names only (a pod's name against a host's) are let in by one
#   peer and refused by another, under the same CA. Leave the common name out of workload certificates.
source "$(dirname "$0")/lib/lab.sh"
pip_install cryptography==50.0.2

(cd "$work" && "$python" - >"$work/seen") <<'PY'
import datetime
import subprocess
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from cryptography.x509.verification import PolicyBuilder, Store, VerificationError

now = datetime.datetime.now(datetime.timezone.utc)
uri, dns = x509.UniformResourceIdentifier("spiffe://mesh.example/proxy"), x509.DNSName("a.example")

def certificate(name, key, issuer, signer, extensions):
    named = lambda text: x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])
    builder = x509.CertificateBuilder(named(issuer), named(name), key.public_key(), x509.random_serial_number(),
                                      now - datetime.timedelta(days=1), now + datetime.timedelta(days=1))
    builder = builder.add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key()), False)
    for extension, critical in extensions:
        builder = builder.add_extension(extension, critical)
    return builder.sign(signer, hashes.SHA256())

ca_key, key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
usage = x509.KeyUsage(False, False, False, False, False, True, True, False, False)
ca = certificate("CA", ca_key, "CA", ca_key, [
    (x509.BasicConstraints(True, None), True), (usage, True), (x509.NameConstraints([x509.DNSName("example")], None), True),
    (x509.SubjectKeyIdentifier.from_public_key(ca_key.public_key()), False)])
pem = serialization.Encoding.PEM
open("ca.pem", "wb").write(ca.public_bytes(pem))
for name, names in (("node7", [uri]), ("node 7.test", [uri]), ("node7.test", [uri]), ("node7.test", [uri, dns])):
    leaf = certificate(name, key, "CA", ca_key, [
        (x509.SubjectAlternativeName(names), False), (x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH]), False)])
    open("leaf.pem", "wb").write(leaf.public_bytes(pem))
    told = subprocess.run("openssl verify -purpose sslclient -CAfile ca.pem leaf.pem".split(), capture_output=True, text=True)
    openssl = "OK" if told.returncode == 0 else told.stderr.split("lookup: ")[1].splitlines()[0]
    try:
        PolicyBuilder().store(Store([ca])).time(now).build_client_verifier().verify(leaf, [])
        python = "OK"
    except VerificationError as error:
        python = str(error)
    print(f"CN={name}, {', '.join(san.value for san in names)}: openssl: {openssl}; cryptography: {python}")
PY
unchanged <<'END'
CN=node7, spiffe://mesh.example/proxy: openssl: OK; cryptography: OK
CN=node 7.test, spiffe://mesh.example/proxy: openssl: OK; cryptography: OK
CN=node7.test, spiffe://mesh.example/proxy: openssl: permitted subtree violation; cryptography: OK
CN=node7.test, spiffe://mesh.example/proxy, a.example: openssl: OK; cryptography: OK
END
