"""PROVISIONAL (lead): replace with the real registry as soon as profile.py exists."""
from __future__ import annotations
from typing import Any, Protocol
import numpy as np

class AccuracyEngine(Protocol):
    base_recall: Any
    def initial_recall(self, noise: Any) -> Any: ...
    def update(self, recall: Any, real_samples: Any, twin_samples: Any, noise: Any, *, mode: str = "incremental") -> Any: ...

class ProfileEngine:
    base_recall = (0.85,0.92,0.77,0.65,0.80,0.74,0.89,0.88,0.92,0.90)
    @classmethod
    def load(cls): return cls()
    def initial_recall(self, noise):
        b = np.log(np.array(self.base_recall)/(1-np.array(self.base_recall)))
        return 1/(1+np.exp(-(b+0.05*noise)))
    def update(self, recall, real, twin, noise, *, mode="incremental"):
        n = real+0.7*twin; tot = n.sum(-1, keepdims=True)
        p = n/np.maximum(tot,1e-9); l = np.log(recall/(1-recall))
        b = np.log(np.array(self.base_recall)/(1-np.array(self.base_recall)))
        k = 1-np.exp(-(tot/150.)**0.7)
        t = b + 0.3 + 0.8*np.log(p*10+0.05)
        new = l*(1-k)+k*t + 0.05*noise*k
        return np.where(tot>0, 1/(1+np.exp(-new)), recall)
ENGINES = {"profile": ProfileEngine}
