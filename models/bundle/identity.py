"""Who vouches for a bundle without a key of his own: a sigstore bundle over manifest.json, https://docs.sigstore.dev.

`manifest.sigstore.json` lies beside the manifest. It has a certificate of a few minutes that names who was logged in
where, as sigstore's authority saw it, and the entry of a public log, which proves when that was. Verifying asks nobody:
the certificates and keys that all this rests on come with the package, from what it fetched when it was last online, or
from a file. Optional: pip install 'trainserve[sigstore]'.
"""

import logging
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from data import whole
from data.errors import InputError

NAME = "manifest.sigstore.json"
MAX_BYTES = 64 << 10  # several times what one has; nothing larger is parsed
MISSING = "the package sigstore is not installed; pip install 'trainserve[sigstore]'"

logger = logging.getLogger("trainserve.bundle")


@dataclass(frozen=True)
class Identity:
    """Who has to have signed, and who has to have seen him log in."""

    name: str  # an e-mail address, or the address of a workflow
    issuer: str  # https://...
    root: Path | None = None  # a trusted_root.json; None: that of the package, or a newer one that it fetched


def fault(manifest: bytes, given: bytes | None, who: Identity) -> str | None:
    """Why this vouches for nothing; None: it does. Whatever goes wrong is such a reason. Its sentences go to whoever
    asks a service: they name neither folders nor who signed, or has to; the log does."""
    if given is None:
        logger.warning("a bundle has no %s: only what %s signed is taken", NAME, who.name)
        return f"it has no {NAME}, so nobody whom this service trusts signed it"
    if len(given) > MAX_BYTES:
        return f"its {NAME} has {len(given)} bytes, more than the {MAX_BYTES} that one may have"
    try:
        from sigstore.errors import VerificationError
        from sigstore.models import Bundle, InvalidBundle, TrustedRoot
        from sigstore.verify import Verifier, policy
    except ImportError:
        return f"who signed it cannot be told: {MISSING}"
    try:
        signed = Bundle.from_json(given)
        root = None if who.root is None else TrustedRoot.from_file(str(who.root))
        verifier = Verifier.production(offline=True) if root is None else Verifier(trusted_root=root)
        verifier.verify_artifact(manifest, signed, policy.Identity(identity=who.name, issuer=who.issuer))
    except InvalidBundle as error:
        logger.warning("%s cannot be read: %s", NAME, error)
        return f"its {NAME} cannot be read; sign it again"
    except VerificationError as error:
        logger.warning("%s does not prove that %s signed it, logged in at %s: %s", NAME, who.name, who.issuer, error)
        return f"its {NAME} does not prove that anybody whom this service trusts signed it"
    except Exception as error:  # noqa: BLE001 - nothing is served because a library failed
        logger.warning("%s cannot be verified: %s: %s", NAME, type(error).__name__, error)
        return f"who signed it cannot be told ({type(error).__name__}; the log has more)"
    return None


def sign(manifest: Path) -> str:
    """Put the signature beside a manifest; returns who signed. Asks a browser, or takes the token of a CI job, and
    needs the network. Raises `InputError`."""
    if find_spec("sigstore") is None:
        raise InputError(MISSING)
    from sigstore.models import ClientTrustConfig
    from sigstore.oidc import IdentityToken, Issuer, detect_credential
    from sigstore.sign import SigningContext

    try:
        trust = ClientTrustConfig.production()
        given = detect_credential()
        token = IdentityToken(given) if given else Issuer(trust.signing_config.get_oidc_url()).identity_token()
        with SigningContext.from_trust_config(trust).signer(token) as signer:
            made = signer.sign_artifact(manifest.read_bytes())
    except Exception as error:  # noqa: BLE001 - the library's, the network's and the browser's share no base class
        reason = str(error).strip().partition("\n")[0][:200] or type(error).__name__
        raise InputError(
            f"it could not be signed with sigstore ({reason}); it needs the network, and a browser or a CI job's token"
        ) from None
    # Made beside the bundle: in it, what a kill leaves would be a file too many.
    whole.write(manifest.with_name(NAME), made.to_json().encode() + b"\n", within=manifest.resolve().parent.parent)
    return str(token.identity)
