"""All methods by name. A plain dict: look one up, or import the class."""

from xmodal_lib.methods.adaptation import LinearProbe, NearestMean, WiseFT, ZeroShot
from xmodal_lib.methods.agm import AGM
from xmodal_lib.methods.cache import TipAdapter, TipAdapterF
from xmodal_lib.methods.clap import CLAP, ZSLP
from xmodal_lib.methods.convex import LogisticPath, LPPlusPlus
from xmodal_lib.methods.croma import CroMA
from xmodal_lib.methods.croma_baselines import (
    AlignClassify,
    AlignMetaClassify,
    ContrastiveOracle,
    CroMATargetLabels,
    FreshHead,
    FromScratch,
    NearestMeanReading,
    Oracle,
    Reconstruction,
    SharedAlign,
    SharedConfusion,
    SharedEncoder,
    SharedTargetLabels,
    SourceOnly,
    WeakLabels,
)
from xmodal_lib.methods.finetuning import AdapterProbe, PartialFinetuning
from xmodal_lib.methods.gtl import GTL
from xmodal_lib.methods.gtl_baselines import Cache, ClassMeans, Logistic
from xmodal_lib.methods.joint import OGM, OGMGE, Independent, Joint, SummedUnimodal
from xmodal_lib.methods.method import Method, NotFitted
from xmodal_lib.methods.mla import MLA
from xmodal_lib.methods.mmpareto import MMPareto
from xmodal_lib.methods.prompting import ProGrad, Prompting
from xmodal_lib.methods.qmf import QMF
from xmodal_lib.methods.reconboost import ReconBoost
from xmodal_lib.methods.ridge import RidgeProbe

METHODS: dict[str, type[Method]] = {
    "zero-shot": ZeroShot,
    "nearest mean": NearestMean,
    "linear probe": LinearProbe,
    "ridge probe": RidgeProbe,
    "WiSE-FT": WiseFT,
    "adapter": AdapterProbe,
    "partial finetuning": PartialFinetuning,
    "Tip-Adapter": TipAdapter,
    "Tip-Adapter-F": TipAdapterF,
    "prompting": Prompting,
    "ProGrad": ProGrad,
    "ZS-LP": ZSLP,
    "CLAP": CLAP,
    "LP++": LPPlusPlus,
    "L-BFGS path": LogisticPath,
    "joint": Joint,
    "OGM": OGM,
    "OGM-GE": OGMGE,
    "QMF": QMF,
    "summed unimodal": SummedUnimodal,
    "independent unimodal": Independent,
    "MLA": MLA,
    "MMPareto": MMPareto,
    "ReconBoost": ReconBoost,
    "AGM": AGM,
    "from scratch": FromScratch,
    "source only": SourceOnly,
    "reconstruction": Reconstruction,
    "weak labels": WeakLabels,
    "align + classify": AlignClassify,
    "align + meta-classify": AlignMetaClassify,
    "CroMA": CroMA,
    "oracle": Oracle,
    "contrastive oracle": ContrastiveOracle,
    "shared encoder": SharedEncoder,
    "shared + align": SharedAlign,
    "shared + domain confusion": SharedConfusion,
    "shared + target labels": SharedTargetLabels,
    "CroMA + target labels": CroMATargetLabels,
    "encoder + nearest mean": NearestMeanReading,
    "encoder + fresh head": FreshHead,
    "GTL": GTL,
    "class means": ClassMeans,
    "logistic regression": Logistic,
    "cache": Cache,
}

__all__ = ["METHODS", "Method", "NotFitted", *(m.__name__ for m in METHODS.values())]
