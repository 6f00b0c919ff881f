"""What there is to say of a source that was read: facts for whoever committed it."""

from __future__ import annotations

from dataclasses import dataclass

from deltavcs.brief import brief
from deltavcs.checkpoint.arrangement import Arrangement, Overlaid
from deltavcs.checkpoint.intake import LeftOut
from deltavcs.checkpoint.layout import is_other_format, is_pickle, is_safetensors
from deltavcs.checkpoint.shards import is_index
from deltavcs.checkpoint.survey import OutsideLink, Survey


@dataclass(frozen=True, slots=True)
class Findings:
    """What there is to say of a source that was read.

    Attributes:
        left_out: files and folders that are not committed.
        links: that were followed out of the source.
        beside: files of weights, and indexes, that are kept and are not the checkpoint's own. Where it has
            none of its own, those in folders are not among them: they are its parts.
        unnamed: own tensors that the index does not name; transformers reads whole shards, and so do we.
        overlaid: own tensors that are in several shards.
        unindexed: own shards without an index, which transformers does not load.
        incomplete: what is not all there, where that was asked for.
        unmatched: patterns that matched nothing.
        whole_files: nothing in it is safetensors, and all is kept as files.
    """

    left_out: tuple[LeftOut, ...] = ()
    links: tuple[OutsideLink, ...] = ()
    beside: tuple[str, ...] = ()
    unnamed: tuple[str, ...] = ()
    overlaid: tuple[Overlaid, ...] = ()
    unindexed: tuple[str, ...] = ()
    incomplete: tuple[str, ...] = ()
    unmatched: tuple[str, ...] = ()
    whole_files: bool = False

    __repr__ = brief


def findings_of(survey: Survey, made: Arrangement, *, whole_files: bool) -> Findings:
    """What a survey and the arrangement of its tensors found."""
    weights = [p for p in survey.files if is_safetensors(p) or is_pickle(p) or is_other_format(p)]
    indexes = [p for p in survey.files if "/" not in p and is_index(p)]
    beside = {*weights, *indexes} - {*made.own, made.index}
    return Findings(
        left_out=tuple(survey.left_out),
        links=tuple(survey.links),
        beside=() if whole_files else tuple(sorted(p for p in beside if p and (made.own or "/" not in p))),
        unnamed=made.unnamed,
        overlaid=made.overlaid,
        unindexed=made.unindexed,
        incomplete=made.problems,
        unmatched=survey.unmatched,
        whole_files=whole_files,
    )
