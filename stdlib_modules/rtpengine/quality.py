"""How a call sounded: the mean opinion scores of its streams, which rtpengine reckons from RTCP, in variables (parameters ``mos_*_pv``)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Final

from kamc.runtime.context import Ctx
from kamc.runtime.pv.bind import BoundPv

#: part of a parameter's name → what rtpengine calls it
_KINDS: Final = {"min": "lowest MOS", "max": "highest MOS", "average": "average MOS"}
_MEASURES: Final = {"": "MOS", "_at": "reported at", "_packetloss": "packet loss", "_jitter": "jitter", "_roundtrip": "round-trip time",
                    "_roundtrip_leg": "round-trip time leg", "_samples": "samples"}  # fmt: skip
#: the whole call, and the side that a label names
_SIDES: Final = ("", "_A", "_B")
#: stands for what rtpengine has not measured
_NONE: Final = -1

Score = dict[str, int]


class QualityParams:
    """Each names a variable. Those with A and B are about the streams whose tag has the label in ``mos_A_label_pv`` and ``mos_B_label_pv``."""

    mos_min_pv: str = ""
    mos_min_at_pv: str = ""
    mos_min_packetloss_pv: str = ""
    mos_min_jitter_pv: str = ""
    mos_min_roundtrip_pv: str = ""
    mos_min_roundtrip_leg_pv: str = ""
    mos_max_pv: str = ""
    mos_max_at_pv: str = ""
    mos_max_packetloss_pv: str = ""
    mos_max_jitter_pv: str = ""
    mos_max_roundtrip_pv: str = ""
    mos_max_roundtrip_leg_pv: str = ""
    mos_average_pv: str = ""
    mos_average_packetloss_pv: str = ""
    mos_average_jitter_pv: str = ""
    mos_average_roundtrip_pv: str = ""
    mos_average_roundtrip_leg_pv: str = ""
    mos_average_samples_pv: str = ""
    mos_A_label_pv: str = ""
    mos_min_A_pv: str = ""
    mos_min_at_A_pv: str = ""
    mos_min_packetloss_A_pv: str = ""
    mos_min_jitter_A_pv: str = ""
    mos_min_roundtrip_A_pv: str = ""
    mos_min_roundtrip_leg_A_pv: str = ""
    mos_max_A_pv: str = ""
    mos_max_at_A_pv: str = ""
    mos_max_packetloss_A_pv: str = ""
    mos_max_jitter_A_pv: str = ""
    mos_max_roundtrip_A_pv: str = ""
    mos_max_roundtrip_leg_A_pv: str = ""
    mos_average_A_pv: str = ""
    mos_average_packetloss_A_pv: str = ""
    mos_average_jitter_A_pv: str = ""
    mos_average_roundtrip_A_pv: str = ""
    mos_average_roundtrip_leg_A_pv: str = ""
    mos_average_samples_A_pv: str = ""
    mos_B_label_pv: str = ""
    mos_min_B_pv: str = ""
    mos_min_at_B_pv: str = ""
    mos_min_packetloss_B_pv: str = ""
    mos_min_jitter_B_pv: str = ""
    mos_min_roundtrip_B_pv: str = ""
    mos_min_roundtrip_leg_B_pv: str = ""
    mos_max_B_pv: str = ""
    mos_max_at_B_pv: str = ""
    mos_max_packetloss_B_pv: str = ""
    mos_max_jitter_B_pv: str = ""
    mos_max_roundtrip_B_pv: str = ""
    mos_max_roundtrip_leg_B_pv: str = ""
    mos_average_B_pv: str = ""
    mos_average_packetloss_B_pv: str = ""
    mos_average_jitter_B_pv: str = ""
    mos_average_roundtrip_B_pv: str = ""
    mos_average_roundtrip_leg_B_pv: str = ""
    mos_average_samples_B_pv: str = ""


def _score(found: Any) -> Score | None:
    """The measures of a stream; None when there is no score."""
    if not isinstance(found, dict):
        return None
    score = {suffix: found[name] if isinstance(found.get(name), int) else _NONE for suffix, name in _MEASURES.items()}
    return score if score[""] > 0 else None


def _dicts(found: Any) -> list[dict[str, Any]]:
    return [one for one in (found.values() if isinstance(found, dict) else found if isinstance(found, list) else ()) if isinstance(one, dict)]


def _streams(answer: dict[str, Any], label: str | None) -> Iterator[dict[str, Any]]:
    """What is known of each stream of a call, or of those of a label."""
    known = answer.get("SSRC")
    if not isinstance(known, dict):
        return
    if label is None:
        yield from _dicts(known)
        return
    for tag in _dicts(answer.get("tags")):
        if tag.get("label") == label:
            for stream in (s for media in _dicts(tag.get("medias")) for s in _dicts(media.get("streams"))):
                found = known.get(str(stream.get("SSRC")))
                if isinstance(found, dict):
                    yield found


def _of_all(kind: str, scores: list[Score]) -> Score:
    """The worst, the best, or the mean of each measure."""
    if kind == "average":
        return {suffix: int(sum(score[suffix] for score in scores) / len(scores)) for suffix in _MEASURES}
    return (min if kind == "min" else max)(scores, key=lambda score: score[""])


def _shown(suffix: str, value: int, created: int) -> str:
    if not suffix:
        return f"{value // 10}.{value % 10}"
    if suffix == "_at":
        minutes, seconds = divmod(max(0, value - created), 60)
        return f"{minutes}:{seconds:02d}"
    return str(value)


class Quality:
    """``bind`` gives the variable that a parameter names, None where it names none."""

    def __init__(self, bind: Callable[[str], BoundPv | None]) -> None:
        self._targets: dict[str, dict[tuple[str, str], BoundPv]] = {}
        self._labels = {side: bind(f"mos{side}_label_pv") for side in _SIDES[1:]}
        for side in _SIDES:
            for kind in _KINDS:
                for suffix in _MEASURES:
                    name = f"mos_{kind}{suffix}{side}_pv"
                    pv = bind(name) if hasattr(QualityParams, name) else None
                    if pv is not None:
                        self._targets.setdefault(side, {})[kind, suffix] = pv

    def tell(self, ctx: Ctx, answer: dict[str, Any]) -> None:
        """Set the variables from the answer to ``delete`` or ``query``. Those that nothing was measured for stay as they are."""
        created = answer["created"] if isinstance(answer.get("created"), int) else 0
        for side, targets in self._targets.items():
            label = None
            if side:
                named = self._labels[side]
                value = named.get(ctx) if named is not None else None
                if value is None or value == "":
                    continue
                label = str(value)
            streams = list(_streams(answer, label))
            for kind, name in _KINDS.items():
                scores = [score for score in (_score(stream.get(name)) for stream in streams) if score is not None]
                if not scores:
                    continue
                whole = _of_all(kind, scores)
                for (wanted, suffix), pv in targets.items():
                    if wanted == kind and pv.set is not None:
                        pv.set(ctx, _shown(suffix, whole[suffix], created))
