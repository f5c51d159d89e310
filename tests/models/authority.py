"""A sigstore of our own for tests: who certifies, and the two public logs, each of one entry, that it all rests on.

Formats: https://github.com/sigstore/protobuf-specs, RFC 6962 (what a log of certificates signs), and
https://github.com/transparency-dev/formats/blob/main/log/README.md (checkpoints).
"""

import base64
import hashlib
import json
import struct
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import ExtendedKeyUsageOID

WHEN = datetime(2026, 11, 22, 3, tzinfo=UTC)
ISSUER_OID = x509.ObjectIdentifier("1.3.6.1.4.1.57264.1.1")
SCT_OID = x509.ObjectIdentifier("1.3.6.1.4.1.11129.2.4.2")
SHA256 = ec.ECDSA(hashes.SHA256())
OTHER_USES = ("content_commitment", "key_encipherment", "data_encipherment", "key_agreement")
OTHERS = dict.fromkeys((*OTHER_USES, "crl_sign", "encipher_only", "decipher_only"), False)


class Authority:
    def __init__(self) -> None:
        self._ca, self._certificates, self._log = (ec.generate_private_key(ec.SECP256R1()) for _ in range(3))
        name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "an authority")])
        self._root = (
            _unsigned(self._ca, name, timedelta(days=365))
            .issuer_name(name)
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(x509.KeyUsage(digital_signature=False, key_cert_sign=True, **OTHERS), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(self._ca.public_key()), critical=False)
            .sign(self._ca, hashes.SHA256())
        )

    def trusted_root(self, file: Path) -> Path:
        start = {"start": (WHEN - timedelta(days=1)).isoformat().replace("+00:00", "Z")}
        logs = [
            {
                "baseUrl": "https://log.example.com",
                "hashAlgorithm": "SHA2_256",
                "publicKey": {
                    "rawBytes": _text(_spki(key)),
                    "keyDetails": "PKIX_ECDSA_P256_SHA_256",
                    "validFor": start,
                },
                "logId": {"keyId": _text(_id(key))},
            }
            for key in (self._log, self._certificates)
        ]
        authority = {
            "subject": {"organization": "tests", "commonName": "an authority"},
            "uri": "https://ca.example.com",
            "certChain": {"certificates": [{"rawBytes": _text(self._root.public_bytes(Encoding.DER))}]},
            "validFor": start,
        }
        told = {"tlogs": logs[:1], "ctlogs": logs[1:], "certificateAuthorities": [authority]}
        file.write_text(json.dumps({"mediaType": "application/vnd.dev.sigstore.trustedroot+json;version=0.1", **told}))
        return file

    def signed(self, content: bytes, *, email: str, issuer: str) -> bytes:
        """A sigstore bundle, as if who has this address, and was seen by this issuer, had signed the content."""
        key = ec.generate_private_key(ec.SECP256R1())
        certificate, signature = self._certified(key, email, issuer), key.sign(content, SHA256)
        digest = hashlib.sha256(content)
        pem = _text(certificate.public_bytes(Encoding.PEM))
        spec = {
            "data": {"hash": {"algorithm": "sha256", "value": digest.hexdigest()}},
            "signature": {"content": _text(signature), "publicKey": {"content": pem}},
        }
        kind = {"kind": "hashedrekord", "version": "0.0.1"}
        body = json.dumps({"apiVersion": "0.0.1", "kind": "hashedrekord", "spec": spec}).encode()
        material = {
            "certificate": {"rawBytes": _text(certificate.public_bytes(Encoding.DER))},
            "tlogEntries": [{**self._entry(body), "kindVersion": kind}],
        }
        told = {"messageDigest": {"algorithm": "SHA2_256", "digest": _text(digest.digest())}}
        return json.dumps(
            {
                "mediaType": "application/vnd.dev.sigstore.bundle.v0.3+json",
                "verificationMaterial": material,
                "messageSignature": {**told, "signature": _text(signature)},
            }
        ).encode()

    def _certified(self, key: ec.EllipticCurvePrivateKey, email: str, issuer: str) -> x509.Certificate:
        unsigned = (
            _unsigned(key, x509.Name([]), timedelta(minutes=10))
            .issuer_name(self._root.subject)
            .add_extension(x509.SubjectAlternativeName([x509.RFC822Name(email)]), critical=True)
            .add_extension(x509.KeyUsage(digital_signature=True, key_cert_sign=False, **OTHERS), critical=True)
            .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CODE_SIGNING]), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(self._ca.public_key()), critical=False)
            .add_extension(x509.UnrecognizedExtension(ISSUER_OID, issuer.encode()), critical=False)
        )
        before = unsigned.sign(self._ca, hashes.SHA256()).tbs_certificate_bytes
        logged = x509.UnrecognizedExtension(SCT_OID, self._timestamp(before))
        return unsigned.add_extension(logged, critical=False).sign(self._ca, hashes.SHA256())

    def _timestamp(self, certificate: bytes) -> bytes:
        """What a log of certificates signs, as the extension of one has it."""
        when = int(WHEN.timestamp() * 1000)
        entry = hashlib.sha256(_spki(self._ca)).digest() + struct.pack("!I", len(certificate))[1:] + certificate
        signature = self._certificates.sign(struct.pack("!BBQH", 0, 0, when, 1) + entry + b"\0\0", SHA256)
        one = b"\0" + _id(self._certificates) + struct.pack("!QHBBH", when, 0, 4, 3, len(signature)) + signature
        listed = struct.pack("!HH", len(one) + 2, len(one)) + one
        return (b"\x04" + bytes([len(listed)]) if len(listed) < 128 else b"\x04\x81" + bytes([len(listed)])) + listed

    def _entry(self, body: bytes) -> dict[str, object]:
        """The first and only one of the log."""
        root, when = hashlib.sha256(b"\0" + body).digest(), int(WHEN.timestamp()) + 60
        promised = {"body": _text(body), "integratedTime": when, "logID": _id(self._log).hex(), "logIndex": 0}
        canonical = json.dumps(promised, sort_keys=True, separators=(",", ":")).encode()
        note = f"log.example.com\n1\n{_text(root)}\n"
        signature = _text(_id(self._log)[:4] + self._log.sign(note.encode(), SHA256))
        envelope = f"{note}\n\u2014 log.example.com {signature}\n"
        proof = {"logIndex": "0", "rootHash": _text(root), "treeSize": "1", "hashes": []}
        return {
            "logIndex": "0",
            "logId": {"keyId": _text(_id(self._log))},
            "integratedTime": str(when),
            "inclusionPromise": {"signedEntryTimestamp": _text(self._log.sign(canonical, SHA256))},
            "inclusionProof": {**proof, "checkpoint": {"envelope": envelope}},
            "canonicalizedBody": _text(body),
        }


def _unsigned(key: ec.EllipticCurvePrivateKey, name: x509.Name, lasts: timedelta) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(WHEN)
        .not_valid_after(WHEN + lasts)
    )


def _spki(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def _id(key: ec.EllipticCurvePrivateKey) -> bytes:
    return hashlib.sha256(_spki(key)).digest()


def _text(raw: bytes) -> str:
    return base64.b64encode(raw).decode()
