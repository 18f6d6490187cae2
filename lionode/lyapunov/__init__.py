"""The Lyapunov function: its values, its certificates, its proofs."""

from lionode.lyapunov.certificate import Certificate, Check, certify
from lionode.lyapunov.function import Dissipation, dissipation, lyapunov
from lionode.lyapunov.proof import Proof, prove

__all__ = ["Certificate", "Check", "Dissipation", "Proof", "certify", "dissipation", "lyapunov", "prove"]
