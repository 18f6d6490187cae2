"""The Lyapunov function: its values, its certificates, its proofs."""

from lionode.lyapunov.certificate import Certificate, Check, certify
from lionode.lyapunov.function import Dissipation, dissipation, lyapunov
from lionode.lyapunov.proof import Proof, prove
from lionode.lyapunov.updates import monotone_lr

__all__ = [
    "Certificate",
    "Check",
    "Dissipation",
    "Proof",
    "certify",
    "dissipation",
    "lyapunov",
    "monotone_lr",
    "prove",
]
